"""What people do on the page, and what they see of it."""

from base64 import b64encode
from pathlib import Path

from playwright.sync_api import Page, expect

CAPTIONED, FAILED = ".photo.captioned", ".photo.failed"
DROP = """([names, urls]) => {
    const data = new DataTransfer();
    names.forEach((name, i) => {
        const bytes = Uint8Array.from(atob(urls[i]), (letter) => letter.charCodeAt(0));
        data.items.add(new File([bytes], name, { type: "image/jpeg" }));
    });
    window.dropped = performance.now();
    new MutationObserver((_, observer) => {
        if (!document.querySelector(".captioned")) return;
        window.firstAfter ??= performance.now() - window.dropped;
        observer.disconnect();
    }).observe(document.getElementById("photos"), { subtree: true, childList: true, attributes: true });
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""


def choose(page: Page, files: list[Path]) -> None:
    page.set_input_files("#choose", files)


def drop(page: Page, files: list[Path]) -> None:
    page.evaluate(DROP, [[path.name for path in files], [b64encode(path.read_bytes()).decode() for path in files]])


def captioned(page: Page, count: int, *, failed: int = 0, timeout_s: float = 30) -> None:
    expect(page.locator(FAILED)).to_have_count(failed, timeout=1000 * timeout_s)
    expect(page.locator(CAPTIONED)).to_have_count(count, timeout=1000 * timeout_s)


def saved(page: Page, button: str) -> bytes:
    with page.expect_download() as coming:
        page.click(button)
    return Path(coming.value.path()).read_bytes()


def light(page: Page, rows: int, columns: int) -> dict[tuple[int, int], float]:
    """How bright the attention view is in the middle of each cell of a grid over it."""
    found = page.evaluate(
        """([rows, columns]) => {
            const canvas = document.getElementById("look-canvas");
            const copy = new OffscreenCanvas(canvas.width, canvas.height);
            const context = copy.getContext("2d", { willReadFrequently: true });
            context.drawImage(canvas, 0, 0);
            const at = (i, count, side) => Math.floor(((i + 0.5) * side) / count);
            return Array.from({ length: rows * columns }, (_, i) => {
                const [x, y] = [at(i % columns, columns, copy.width), at(Math.floor(i / columns), rows, copy.height)];
                const [red, green, blue] = context.getImageData(x, y, 1, 1).data;
                return (red + green + blue) / 3;
            });
        }""",
        [rows, columns],
    )
    return {divmod(i, columns): value for i, value in enumerate(found)}
