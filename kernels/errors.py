"""The one exception of this package: a text that is not a kernel."""

from __future__ import annotations


class KernelError(ValueError):
    """A kernel text was refused when it was defined: says the kernel, the line, the token and the cure."""

    def __init__(self, kernel: str, where: str, token: str, cure: str) -> None:
        self.kernel, self.where, self.token, self.cure = kernel, where, token, cure
        super().__init__(f"kernel {kernel!r}, {where}, at {token!r}: {cure}")
