"""The language of kernel texts: what is refused is refused at definition, by line and token, with a cure."""

import numpy as np
import pytest

import kernels
from kernels import Elementwise, KernelError


def define(body, inputs="S x", outputs="S y", **options):
    return Elementwise("probe", inputs, outputs, body, **options)


@pytest.mark.parametrize(
    ("body", "line", "token", "cure"),
    [
        ("y = 0.5 * T(x);", 1, "0.5", r"bare decimal: write T\(0.5\)"),
        ("y = T(x) * 1e-3;", 1, "1e-3", r"write T\(1e-3\)"),
        ("y = T(0.5f);", 1, "0.5f", "without its suffix"),
        ("T d = T(x);\ny = e;", 2, "e", "is not defined here"),
        ("y = d; T d = T(x);", 1, "d", "is not defined here"),
        ("y = T(x);\n\nfor (;;) {}", 3, "for", "loops are not part of the language"),
        ("while (x) y = x;", 1, "while", "loops"),
        ("T* d = x;", 1, "*", "pointers"),
        ("*y = x;", 1, "*", "pointers"),
        ("y = x[0];", 1, "x", "only raw parameters take an index"),
        ("x = y;", 1, "x", "is an input"),
        ("d = T(x); y = d;", 1, "d", "declare it with its type first"),
        ("T x = T(1); y = x;", 1, "x", "already the name"),
        ("T exp = T(1); y = exp;", 1, "exp", "name of a function"),
        ("T i = T(1); y = i;", 1, "i", "already the name"),
        ("y = gamma(T(x));", 1, "gamma", "is not a function of the language; it knows: abs acos"),
        ("y = max(T(x));", 1, "max", "takes 2 arguments, not 1"),
        ("atomicAdd(y, x);", 1, "atomicAdd", "a call is not a statement"),
        ("y = atomicAdd;", 1, "atomicAdd", "same seed"),
        ("y = T(x) + i;", 1, "+", "mixes float32 and int64"),
        ("y = i;", 1, "y", r"write T\(\.\.\.\)"),
        ("int k = T(x); y = T(k);", 1, "k", "write the cast"),
        ("y = T(i / k);", 1, "k", "is not defined"),
        ("int64 k = i; y = T(i / k);", 1, "/", "positive literal or n"),
        ("int64 k = i; y = T(i >> k);", 1, ">>", "must be a literal below 64"),
        ("y = T(x) % T(2);", 1, "%", "integers only"),
        ("y = x ? x : T(0);", 1, "x", "a condition must be a comparison"),
        ("y = x > x ? x : T(0);", 1, "?", r"write T\(\.\.\.\) on both"),
        ("if (x > x) { T d = x; } y = d;", 1, "d", "is not defined here"),
        ("T d; y = d;", 1, ";", "declare 'd' with its value"),
        ("y += T(x);", 1, "y", r"stored in 16 bits: write y = T\(y\) \+"),
        ("const T d = T(x); d = T(1); y = d;", 1, "d", "is const"),
        ("float d = x; y = d;", 1, "float", "write float32 or T"),
        ("y = (T)x;", 1, "T", r"write the cast as a call: T\(x\)"),
        ("y = T(x)", 1, "end of text", "expected ';'"),
        ("y = T(x;", 1, ";", r"expected '\)'"),
        ("{ y = x;", 1, "{", "never closed"),
        ("y = x @ x;", 1, "@ x;", "is not in the language"),
        ("y = x; x++;", 1, "x", r"\+\+ and -- are not part"),
        ("T new = T(x); y = new;", 1, "new", "word of the language"),
        ("T d_ = T(x); y = d_;", 1, "d_", "underscore"),
        ("y = T(99999999999999999999);", 1, "99999999999999999999", "64 bits"),
        ("#if fast\ny = x;\n#endif", 1, "fast", "is no flag of this kernel"),
        ("#define A\ny = x;", 1, "#define A", "only #if FLAG"),
        ("y = x;\n#endif", 2, "#endif", "without an #if"),
    ],
)
def test_a_text_outside_the_language_is_refused_by_line_and_token(body, line, token, cure):
    with pytest.raises(KernelError, match=cure) as caught:
        define(body)
    assert caught.value.kernel == "probe" and caught.value.token == token
    assert caught.value.where == f"line {line}"
    assert str(caught.value).startswith(f"kernel 'probe', line {line}, at {token!r}: ")


@pytest.mark.parametrize(
    ("options", "token", "cure"),
    [
        (dict(inputs="S x, S unused"), "unused", "the text never uses it"),
        (dict(scalars="lr"), "lr", "the text never uses it"),
        (dict(outputs="S y, T s"), "s", "the text never uses it"),
        (dict(inputs="S x, S x"), "x", "declared twice"),
        (dict(inputs="S x, float q"), "float", "is not a type"),
        (dict(inputs="row S x"), "row", "is not a kind of parameter here"),
        (dict(inputs="S"), "S", "a declaration is"),
        (dict(outputs="raw S y"), "raw", "is not a kind"),
        (dict(inputs="S exp"), "exp", "name of a function"),
        (dict(outputs=""), "", "needs an output"),
        (dict(scalars="lr lr"), "lr", "stand once"),
    ],
)
def test_a_wrong_declaration_is_refused_by_name(options, token, cure):
    with pytest.raises(KernelError, match=cure) as caught:
        define("y = x;", **options)
    assert caught.value.token == token


def test_an_output_that_is_only_read_is_refused():
    with pytest.raises(KernelError, match="never assigns"):
        define("y = T(x) + s;", outputs="S y, T s")


def test_an_error_under_a_flag_surfaces_at_definition():
    with pytest.raises(KernelError, match="bare decimal") as caught:
        define("#if fast\ny = 0.5;\n#else\ny = x;\n#endif", flags="fast")
    assert caught.value.where == "line 2 (with flags fast)"


def test_an_error_that_only_all_flags_together_make_surfaces_at_definition():
    with pytest.raises(KernelError, match="already the name"):
        define("y = x;\n#if a\nT d = T(x); y = d;\n#endif\n#if b\nT d = T(x); y = d;\n#endif", flags="a b")


def test_flags_choose_lines_and_keep_their_numbers():
    body = "\n#if a\ny = T(1);\n#elif b\ny = T(2);\n#elif !c\ny = T(3);\n#else\ny = x;\n#endif"
    kernel = define(body, flags="a b c")
    assert kernel.text("a") == "y = T(1);" and kernel.text(("b",)) == "y = T(2);"
    assert kernel.text() == "y = T(3);" and kernel.text(["c"]) == "y = x;"
    assert kernel.text(("a", "b", "c")) == "y = T(1);"
    assert kernel.variant("b").text.split("\n").index("y = T(2);") == body.split("\n").index("y = T(2);")


def test_flags_nest():
    kernel = define("#if a\n#if b\ny = T(1);\n#else\ny = T(2);\n#endif\n#else\ny = x;\n#endif", flags="a b")
    assert [kernel.text(f) for f in ((), "a", "b", ("a", "b"))] == [
        "y = x;",
        "y = T(2);",
        "y = x;",
        "y = T(1);",
    ]


def test_an_unknown_flag_names_the_known_ones():
    kernel = define("#if a\ny = T(1);\n#else\ny = x;\n#endif", flags="a")
    with pytest.raises(ValueError, match="kernel 'probe' has no flag 'b'; its flags are: a"):
        kernel(np.ones(2, np.float32), flags=("b",))


def test_repr_shows_the_declaration_and_the_text():
    kernel = define("y = lr * T(x);  // step", scalars="lr")
    assert repr(kernel) == "Elementwise('probe', 'S x', 'S y', scalars='lr')\ny = lr * T(x);  // step"


def test_a_kernel_knows_the_file_and_line_of_its_text_but_not_the_folder():
    kernel = Elementwise(
        "probe",
        "S x",
        "S y",
        """
        y = T(x);
        """,
    )
    assert kernel.file.endswith("test_kernel_text.py") and not kernel.file.startswith("/")
    with open(__file__) as file:
        assert file.read().split("\n")[kernel.line] == "        y = T(x);"


def test_kernels_of_the_package_register_themselves_and_names_are_unique():
    from kernels import rules

    assert kernels.registry["adam"] is rules.ADAM and "probe" not in kernels.registry
    taken = {"__name__": "minigrad.thief", "Elementwise": Elementwise}
    with pytest.raises(KernelError, match=r"taken by the kernel of kernels/rules/adam.py"):
        exec("Elementwise('adam', 'S x', 'S y', 'y = x;')", taken)
