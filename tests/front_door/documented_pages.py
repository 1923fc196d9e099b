"""What the pages of the documentation show to be run: commands, Python blocks and option files."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
TRANSLATED = ("/zh/", "/en/")
GENERATED = (
    *("docs/_build/", "docs/examples/", "docs/reference/generated/", "docs/studies/"),
    *("docs/changelog.md", "docs/contributing.md", "docs/reference/commands.md"),
    "docs/reference/configuration.md",
)
PROGRAMS = (
    *("apt-get", "bash", "cat", "cd", "cp", "curl", "docker", "echo", "eval", "export", "git", "harness"),
    *("mkdir", "mlflow", "mv", "pip", "pre-commit", "printf", "pytest", "python", "python3", "rm", "ruff"),
    *("runuser", "sbatch", "scp", "rsync", "ssh", "source", "tar", "unzip", "uv", "wget", r"\."),
)
COMMAND = re.compile(rf"(?:[A-Z_]+=\S+ )*(?:{'|'.join(PROGRAMS)})(?= |$)")
INLINE = re.compile(r"python -m harness [^\s{]")
SHELLS = {"bash", "console", "sh", "shell"}
SHOWN_AS_TEXT = {"json", "text", "toml", "ini", "csv", "tsv", "html"}


@dataclass(frozen=True)
class Step:
    """One thing on a page that a reader runs or writes to a file.

    Attributes
    ----------
    page : str
        Path from the root of the repository.
    kind : {"command", "python", "yaml", "text"}
    text : str
        A command on one line, without its prompt; or the whole block.
    output : str
        What the page shows below the command, after a prompt; else empty.
    is_inline : bool
        Whether it stands inside a sentence.
    """

    page: str
    line: int
    kind: str
    text: str
    output: str = ""
    is_inline: bool = False

    @property
    def command(self) -> str:
        """The command without the comment at its end, and without the installation before it."""
        return re.sub(r"\s+#\s.*$", "", re.sub(r"^pip install \. && ", "", self.text))

    @property
    def file(self) -> str:
        """The path in the first line of an option file or a module; empty where there is none."""
        found = re.match(r"# (\S+\.(yaml|py))\n", self.text) if self.kind in ("yaml", "python") else None
        return found[1] if found else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def list_pages() -> list[str]:
    """Return the pages whose commands are run, those with the most commands first."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    for directory, pattern in (("docs", "*.md"), ("experiments", "*.md"), ("examples", "*.py")):
        paths += sorted((ROOT / directory).rglob(pattern))
    pages = [path.relative_to(ROOT).as_posix() for path in paths]
    pages = [page for page in pages if not page.startswith(GENERATED)]
    return sorted(pages, key=lambda page: -len(read_steps(page)))


def list_steps() -> list[Step]:
    """Return the steps of all pages."""
    return [step for page in list_pages() for step in read_steps(page)]


def is_compared(step: Step) -> bool:
    """Return whether a Python block shows folds, which are those of ``subject=2 estimator=svc cv=logo``."""
    return step.kind == "python" and step.text.rstrip().endswith("\ndecoding.folds")


def read_steps(page: str) -> list[Step]:
    """Return what a page shows to be run, in its order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return parse_steps(page, _take_comments(text) if page.endswith(".py") else text)


def parse_steps(page: str, text: str) -> list[Step]:
    """Return the steps of a Markdown text, and every other block of code as ``"text"``."""
    steps = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.map is None:
            continue
        line = token.map[0] + 1
        if token.type in ("fence", "code_block"):
            if token.type == "fence":
                steps += _read_block(page, line + 1, token.info.strip(), token.content)
            else:
                for start, content in _split_parts(token.content):
                    steps += _read_block(page, line + start, "", content)
        elif token.type == "inline":
            for child in token.children or []:
                content = child.content.strip()
                if child.type == "code_inline" and INLINE.match(content) and "..." not in content:
                    steps.append(Step(page, line, "command", content, is_inline=True))
    return steps


def list_mixed_blocks(text: str) -> list[tuple[int, list[str]]]:
    """Return the first line and the languages of every indented block that has more than one."""
    found = []
    for token in MarkdownIt("commonmark").parse(text):
        if token.type == "code_block" and token.map is not None:
            kinds = {_guess_kind(content) for _, content in _split_parts(token.content)} - {"other"}
            if len(kinds) > 1:
                found.append((token.map[0] + 1, sorted(kinds)))
    return found


def _read_block(page: str, line: int, info: str, content: str) -> Iterator[Step]:
    """Yield the steps of one block of code."""
    if info.startswith("{"):
        name, _, argument = info.partition(" ")
        if name != "{code-block}":
            return  # a directive of Sphinx
        info = argument.strip()
    kind = info.split(maxsplit=1)[0].lower() if info else _guess_kind(content)
    if kind in SHELLS:
        yield from _read_shell(page, line, content)
    elif kind in ("python", "yaml"):
        yield Step(page, line, kind, content)
    elif kind == "yml":
        yield Step(page, line, "yaml", content)
    else:
        yield Step(page, line, "text" if kind not in SHOWN_AS_TEXT else "shown", content)


def _split_parts(content: str) -> list[tuple[int, str]]:
    """Return the parts of an indented block with their first lines: an option file may precede commands."""
    parts: list[tuple[int, str]] = []
    for found in re.finditer(r"(?:.*\S.*(?:\n|$))+", content):
        if parts and _guess_kind(found[0]) == "other":
            parts[-1] = (parts[-1][0], content[: found.end()][_find_line(content, parts[-1][0]) :])
        else:
            parts.append((content[: found.start()].count("\n"), found[0]))
    return parts


def _find_line(content: str, number: int) -> int:
    """Return where a line begins, counted from 0."""
    return sum(len(line) for line in content.splitlines(keepends=True)[:number])


def _guess_kind(content: str) -> str:
    """Return the language of a block that does not name it."""
    lines = [line for line in content.splitlines() if line.strip()]
    if re.match(r"# \S+\.yaml\b", lines[0] if lines else ""):
        return "yaml"
    if lines and re.match(r"(import|from) \w", lines[0]):
        return "python"
    if any(COMMAND.match(line.removeprefix("$ ")) for line in lines):
        return "bash"
    return "other"


def _read_shell(page: str, line: int, content: str) -> Iterator[Step]:
    """Yield the commands of a block, and after a prompt the output that is shown below each."""
    lines = content.splitlines()
    has_prompts = any(text.startswith("$ ") for text in lines)
    number = 0
    while number < len(lines):
        start = number
        text = lines[number]
        while text.endswith("\\") and number + 1 < len(lines):
            number += 1
            text = text.removesuffix("\\").rstrip() + " " + lines[number].strip()
        number += 1
        if has_prompts:
            output = []
            while number < len(lines) and not lines[number].startswith("$ "):
                output.append(lines[number])
                number += 1
            yield Step(page, line + start, "command", text.removeprefix("$ "), "\n".join(output).strip())
        elif text.strip() and not text.lstrip().startswith("# "):
            yield Step(page, line + start, "command", text.strip())


def _take_comments(source: str) -> str:
    """Return the text blocks of an example for sphinx-gallery: its docstring, and its comments."""
    docstring, _, code = source.removeprefix('"""').partition('"""')
    comments = [re.sub("^# ?", "", line) if line.startswith("#") else "" for line in code.splitlines()]
    return "\n".join([*docstring.splitlines(), *comments])
