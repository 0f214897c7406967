"""What a browser would make of a page: tags, attributes, text; checks that tags close in order."""

import html.parser

VOID = ("meta", "link", "img")


class HtmlPage(html.parser.HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.source, self.tags, self.attributes, self.inline = text, [], [], {}
        self._words, self._open = [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] in ("style", "script"):
            self.inline[self._open[-1]] = data
        else:
            self._words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self._words).split())

    @property
    def loaded(self) -> list[str]:
        """Addresses of whatever the page shows, runs or links."""
        return [value for name, value in self.attributes if name in ("src", "srcset", "href", "data", "poster")]
