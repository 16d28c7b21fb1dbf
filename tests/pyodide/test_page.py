"""The example page with Pyodide, in the browsers of this machine."""

from __future__ import annotations

import json
import os
import threading
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import pytest

from conformance.hosts import HostMissingError, answer_of_page
from examples.pyodide.serve import create_server
from tests.kit.node import FOLDER
from tests.pyodide.conftest import libraries

pytestmark = pytest.mark.hosts

# Presses the page's button for each program, and posts what the programs have printed.
PRESS = b"""<!doctype html><iframe src="/page" width="900" height="900"></iframe><script type="module">
const page = () => document.querySelector("iframe").contentDocument;
const until = async (ready) => { while (!ready()) await new Promise((done) => setTimeout(done, 50)); };
const post = (answer) => fetch("/", { method: "POST", body: JSON.stringify(answer) });
try {
  await until(() => page()?.getElementById("output")?.textContent.match(/ready|Error/));
  const [choice, button, output] = ["choice", "run", "output"].map((id) => page().getElementById(id));
  const printed = { loading: output.textContent };
  for (const { value } of [...choice.options]) {
    choice.value = value;
    choice.onchange();
    button.click();
    await until(() => !button.disabled);
    printed[value] = output.textContent;
  }
  await post(printed);
} catch (error) {
  await post({ error: String(error) });
}
</script>"""


def served(wheels: Path) -> dict[str, tuple[str, bytes]]:
    """Return what the example's server serves, for a server that takes an answer as well."""
    server = create_server(wheels, FOLDER / "node_modules" / "pyodide")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def get(path: str) -> tuple[str, bytes]:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}{path}", timeout=60) as answer:
            return answer.headers["Content-Type"], answer.read()

    try:
        files = {"/page": get("/"), "/wheels.json": get("/wheels.json")}
        names = [wheel.removeprefix(".") for wheel in json.loads(files["/wheels.json"][1])]
        names += ["/pyodide/" + name for name in ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm")]
        names += ["/pyodide/" + name for name in ("python_stdlib.zip", "pyodide-lock.json")]
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get("/pyodide/../package.json")
        return files | {name: get(name) for name in names}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("browser", ["chromium", "firefox"])
def test_programs_of_the_page(browser: str, wheel: Path, tmp_path: Path) -> None:
    (tmp_path / wheel.name).write_bytes(wheel.read_bytes())
    for library in libraries():
        with zipfile.ZipFile(tmp_path / f"{library.stem}-0-py3-none-any.whl", "w") as pack:
            members = [library] if library.is_file() else library.rglob("*.*")
            for file in members:
                if file.is_file() and file.suffix in (".py", ".pem"):
                    pack.write(file, file.relative_to(library.parent))
    files = served(tmp_path)
    try:
        printed = answer_of_page(browser, {**files, "/": ("text/html", PRESS)})
    except HostMissingError as error:
        if os.environ.get("TCPIP_WASM_REQUIRE_PEERS") == "1":
            pytest.fail(f"a real peer is required: {error}", pytrace=False)
        pytest.skip(str(error))
    assert printed["loading"] == "ready"
    assert printed["two hosts"] == "good day, Alice\n"
    assert "200 10.0.0.1 asked www for /index.html\n" in printed["web server"]
    assert "Traceback" not in printed["web server"]
