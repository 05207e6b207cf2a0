"""A plain FastAPI handler around eager PyTorch, as one would write it at first."""

import sys

import uvicorn
from fastapi import FastAPI, UploadFile

from tests.benchmarks.eager import EagerCaptioner
from tests.benchmarks.peers.engine import BUNDLE

app = FastAPI()
captioner = EagerCaptioner(BUNDLE)


@app.post("/caption")
def caption(file: UploadFile) -> dict[str, str]:
    return {"caption": captioner.caption(captioner.read(file.file.read())[None])[0]}


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[1]), log_level="warning")
