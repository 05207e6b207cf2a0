"""Swagger 2.0 of IBM's API, with its title: what tools take to find out what they talk to."""

from typing import Any

TITLE = "MAX Image Caption Generator"
TAG = "model"
JSON = ["application/json"]
TEXT = {"type": "string"}


def document(version: str) -> dict[str, Any]:
    return {
        "swagger": "2.0",
        "info": {"title": TITLE, "version": version, "description": "Generate captions that describe images."},
        "basePath": "/",
        "consumes": JSON,
        "produces": JSON,
        "tags": [{"name": TAG, "description": "Model information and inference operations"}],
        "paths": {
            "/model/metadata": {"get": _operation("get_model_metadata_api", "ModelMetadata", "What the model is")},
            "/model/predict": {
                "post": {
                    **_operation("predict", "ModelPredictResponse", "Captions for an image"),
                    "consumes": ["multipart/form-data"],
                    "parameters": [
                        {
                            "name": "image",
                            "in": "formData",
                            "type": "file",
                            "required": True,
                            "description": "An image in JPEG or PNG format",
                        }
                    ],
                }
            },
        },
        "definitions": {
            "ModelMetadata": _object(id=TEXT, name=TEXT, description=TEXT, type=TEXT, source=TEXT, license=TEXT),
            "LabelPrediction": _object(index=TEXT, caption=TEXT, probability={"type": "number"}),
            "ModelPredictResponse": _object(
                status=TEXT, predictions={"type": "array", "items": _reference("LabelPrediction")}
            ),
            "Error": _object(message=TEXT),
        },
    }


def _operation(name: str, answer: str, summary: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "tags": [TAG],
        "responses": {
            "200": {"description": "Success", "schema": _reference(answer)},
            "default": {"description": "Error", "schema": _reference("Error")},
        },
    }


def _reference(definition: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{definition}"}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
