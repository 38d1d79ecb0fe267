"""The scalar functions beside those of sqlite-vec: the same expressions in both, and what differs.

    python functions.py path/to/libsqlite_ivf.so        (needs apsw and sqlite-vec)

Texts are compared as JSON where they are JSON, numbers to six digits; of errors only that there is one. Then both
libraries in one connection, in either order of loading: sqlite-vec's functions must be the ones that answer.
"""
import json
import struct
import sys

import apsw
import sqlite_vec

F = ["'[0,0]'", "x'0000c07f'", "'[1, 2.5]'", "vec_f32('[3,4]')", "x'0000803f00002040'", "'[0.5,-1,1,0.1,-0.1,0.996,2,-2]'", "'[1,2,3]'"]
I = ["vec_int8('[1,2]')", "vec_int8('[127,-128]')", "vec_int8(x'0102ff')", "vec_int8('[1,-1,0,2,-3,4,5,1]')"]
B = ["vec_bit(x'ff')", "vec_bit(x'0f')", "vec_bit(x'ff00ff')"]
BAD = ["NULL", "5", "1.5", "''", "'[]'", "x''", "x'000000'", "'abc'", "'[\"a\"]'", "'[null]'", "'[128]'", "'[1.5]'", "'[1,0]'"]
ONE = ["vec_f32", "vec_int8", "vec_bit", "vec_length", "vec_type", "vec_to_json", "vec_normalize", "vec_quantize_binary"]
TWO = ["vec_add", "vec_sub", "vec_distance_l2", "vec_distance_l1", "vec_distance_cosine", "vec_distance_hamming"]
SLICES = ["0,1", "1,2", "0,8", "8,16", "4,16", "8,15", "0,0", "2,1", "-1,2", "0,-1", "0,99", "'0','2'", "0,NULL"]

# Where the two differ on purpose; docs/sql.md says so.
KNOWN = [
    ("vec_each(vec_bit", "bits in the order of vec_to_json and vec_quantize_binary"),
    ("vec_f32(vec_int8", "converted; there its bytes are taken for floats"),
    ("vec_int8(vec_f32", "an error; there its bytes are taken for int8"),
    ("vec_int8(vec_bit", "an error; there its bytes are taken for int8"),
    ("vec_bit(vec_f32", "an error; there its bytes are taken for bits"),
    ("vec_bit(vec_int8", "an error; there its bytes are taken for bits"),
    ("vec_f32(vec_bit", "an error; there its bytes are taken for floats"),
    ("vec_quantize_int8(vec_int8", "an error; there its bytes are taken for floats"),
    ("vec_quantize_int8(vec_bit", "an error; there its bytes are taken for floats"),
    ("vec_normalize('[0,0]'", "an error; there NaN"),
    ("vec_distance_cosine('[0,0]'", "an error; there NULL"),
    (", '[0,0]'", "an error; there NULL"),
    ("]', vec_int8(", "JSON is read as int8 beside int8; there an error"),
    ("vec_int8('[1,2]'), '[", "JSON is read as int8 beside int8; there an error"),
    ("vec_int8('[127,-128]'), '[", "the same"),
    ("vec_int8(x'0102ff'), '[", "the same"),
    ("NULL", "NULL in, NULL out; there an error"),
    ("x'0000c07f'", "not a number: an error of distances; there NULL, or whatever the machine makes of it"),
]


def expressions():
    everything = F + I + B + BAD
    for function in ONE:
        for a in everything:
            yield f"{function}({a})"
            yield f"subtype({function}({a}))"
    for function in TWO:
        for a in everything:
            for b in everything:
                yield f"{function}({a}, {b})"
                yield f"typeof({function}({a}, {b}))"
    for a in F + I + B:
        for slice in SLICES:
            yield f"vec_slice({a}, {slice})"
        for how in ["'unit'", "'UNIT'", "'other'", "NULL", "5"]:
            yield f"vec_quantize_int8({a}, {how})"
        yield f"(SELECT json_group_array(value) FROM vec_each({a}))"
        yield f"json_array(vec_to_json({a}))"


def evaluate(connection, expression):
    try:
        value = connection.execute(f"SELECT {expression}").fetchone()[0]
    except apsw.Error as error:
        return "error", str(error)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            pass
    return "value", value


def same(a, b):
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return type(a) is type(b) and abs(a - b) <= 1e-6 * max(1.0, abs(a))
    if isinstance(a, bytes) and isinstance(b, bytes) and len(a) == len(b) and len(a) % 4 == 0 and a != b:
        # The last bit of a float: lengths are summed in f64 here.
        return same(list(struct.unpack(f"{len(a) // 4}f", a)), list(struct.unpack(f"{len(b) // 4}f", b)))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_number, a, b))
    return a == b


def same_number(a, b):
    return same(float(a), float(b)) if isinstance(a, (int, float)) and isinstance(b, (int, float)) else same(a, b)


def connect(*libraries):
    connection = apsw.Connection(":memory:")
    connection.enable_load_extension(True)
    for library in libraries:
        # By SQL: a statement is running then, and SQLite refuses to replace a function.
        connection.execute("SELECT load_extension(?)", (library,)).fetchall()
    return connection


def main():
    ours, theirs = sys.argv[1], sqlite_vec.loadable_path()
    a, b = connect(ours), connect(theirs)
    seen = agreed = known = 0
    for expression in dict.fromkeys(expressions()):
        seen += 1
        mine, other = evaluate(a, expression), evaluate(b, expression)
        if mine[0] == other[0] and (mine[0] == "error" or same(mine[1], other[1])):
            agreed += 1
        elif any(start in expression for start, _ in KNOWN):
            known += 1
        else:
            print(f"{expression}\n    ours   {mine}\n    theirs {other}")
    print(f"{seen} expressions: {agreed} alike, {known} different on purpose, {seen - agreed - known} different")
    for start, why in KNOWN:
        print(f"    on purpose: {start}...: {why}")
    # What only sqlite-vec answers so: its text of a float has six digits.
    probe = "vec_to_json('[1]')"
    orders = [connect(ours, theirs), connect(theirs, ours)]
    for order, connection in zip(["ours first", "sqlite-vec first"], orders):
        text = connection.execute(f"SELECT {probe}").fetchone()[0]
        each = connection.execute("SELECT value FROM vec_each(vec_bit(x'f0')) LIMIT 1").fetchone()[0]
        own = connection.execute("SELECT vec_type(vec_int8('[1]')), ivf_version(), vec_distance_ip('[1]', '[2]')").fetchone()
        print(f"{order}: {probe} = {text}, {own}")
        assert text == "[1.000000]" and each == 1, "sqlite-vec's functions were overridden"
        connection.execute("CREATE VIRTUAL TABLE v USING vec0(e float[2]); CREATE VIRTUAL TABLE i USING ivf(e float[2])")
    sys.exit(seen != agreed + known)


main()
