"""What the site (mkdocs.yml) has beyond docs/: pages from elsewhere in the repository, links to them, and the API.

The pages of docs/ link to each other and to other files as GitHub needs it. These hooks of mkdocs turn the links into
those of the site, and a link to what the site does not have is an error of `make docs`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent
OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
}
"""Pages that are not in docs/ → where they are on the site."""
EXAMPLES = "examples.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for source, page in OUTSIDE.items()}
    for page, text in {**pages, EXAMPLES: examples(), "api.md": api()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links between files of the repository into links between pages of the site."""
    place = page.file.src_uri
    source = next((source for source, copy in OUTSIDE.items() if copy == place), f"docs/{place}")

    def on_site(found: re.Match[str]) -> str:
        path, anchor = found[1], found[2] or ""
        target = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if target in ("examples", "examples/README.md"):
            target = EXAMPLES
        elif target.startswith("examples/"):
            target, anchor = EXAMPLES, f"#{target.removeprefix('examples/')}"
        else:
            target = OUTSIDE.get(target) or os.path.relpath(target, "docs")
        return f"]({os.path.relpath(target, os.path.dirname(place) or '.')}{anchor})"

    return re.sub(r"\]\((?!\w+:)([^)#\s]+)(#[^)\s]*)?\)", on_site, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the pages that docstrings cite; fdtcc_dagster_tests/test_docs.py checks that they exist."""
    if page.file.src_uri != "api.md":
        return html
    return re.sub(r"\bdocs/([\w-]+)\.md(#[\w-]+)?", r'<a href="../\1/\2">\g<0></a>', html)


def examples() -> str:
    """The page of each example, and its files; a heading is the directory's name, which links lead to."""
    parts = [_page_of(ROOT / "examples")]
    for page in sorted((ROOT / "examples").glob("*/README.md")):
        directory = page.parent
        parts += [f"## {directory.name}", _page_of(directory).partition("\n")[2].strip()]
        files = [path for path in directory.rglob("*") if path.suffix in {".py", ".yaml", ".toml", ".html"}]
        for file in sorted(path for path in files if path.stat().st_size):
            language = file.suffix.removeprefix(".")
            parts.append(f"`{file.relative_to(ROOT)}`:\n\n```{language}\n{file.read_text(encoding='utf-8')}```")
    return "\n\n".join(parts)


def _page_of(directory: Path) -> str:
    """An example's README.md, with the links of a page of docs/."""
    text = (directory / "README.md").read_text(encoding="utf-8")
    place = os.path.relpath(directory, ROOT / "docs")
    return re.sub(r"\]\((?!\w+:)([^)#\s]+)", lambda found: f"]({os.path.normpath(os.path.join(place, found[1]))}", text)


def api() -> str:
    """The public names, as their docstrings describe them."""
    package = (ROOT / "fdtcc_dagster" / "__init__.py").read_text(encoding="utf-8")
    public = re.findall(r'^    "(\w+)",$', package.partition("__all__ = [")[2].partition("]")[0], re.MULTILINE)
    errors = [name for name in public if name.endswith("Error")]
    groups = {
        "Classes": [name for name in public if name[0].isupper() and name not in ("FDTCC", *errors)],
        "Functions": [name for name in public if name.islower()],
        "The sandbox": ["sandbox.SandboxContainer", "sandbox.faults"],
        "Errors": errors,
    }
    options = f"    options:\n      inherited_members: {['pull', 'pull_sync', 'request', 'fetch', 'check']}\n"
    parts = ["# API"]
    for title, names in groups.items():
        parts += [f"## {title}", *(f"::: fdtcc_dagster.{name}\n{options}" for name in names)]
    return "\n\n".join(parts)
