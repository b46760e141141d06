"""What fields must have in common where one is made from, or shares the rows of, another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dualdnn.schema.field import Field


def relation_mistakes(fields: Sequence[Field]) -> list[str]:
    """What is wrong between fields that are each sound, one sentence each."""
    by_name = {field.name: field for field in fields}
    found: list[str] = []
    for field in fields:
        if field.namespace != field.name:
            found.extend(_sharing_mistakes(field, by_name))
        if field.of == field.name or field.table == field.name:
            found.append(f"field `{field.name}`: it shares rows with itself; name another field.")
        if field.cross is not None:
            found.extend(_cross_mistakes(field, by_name))
        if field.key is not None:
            found.extend(_key_mistakes(field, by_name))
    if fields and all(field.privileged for field in fields):
        found.append("every field is privileged: the students would have nothing to read. Leave "
                     "at least one field that is known when the model is served.")
    return found


def _sharing_mistakes(field: Field, fields: Mapping[str, Field]) -> list[str]:
    key = "of" if field.of else "table"
    where = f"field `{field.name}`: `{key}`"
    owner = fields.get(field.namespace)
    if owner is None:
        return [f"{where} names `{field.namespace}`, which is not a field of this schema."]
    if owner.kind not in ("id", "ids") or owner.cross or owner.namespace != owner.name:
        return [f"{where} names `{owner.name}`, but rows are shared by a field of kind id or ids "
                "that owns them and is no cross. Name the owner itself."]
    found = []
    if field.size is not None or field.min_count != 1:
        found.append(f"{where}: size and min_count are those of the owner `{owner.name}`; remove "
                     "them here.")
    if field.pii != owner.pii:
        found.append(f"{where} names `{owner.name}`: both must have the same pii, else one value "
                     "would have two signs, one of them without a key.")
    return found + _privilege_mistakes(field, [owner], "shares the rows of")


def _cross_mistakes(field: Field, fields: Mapping[str, Field]) -> list[str]:
    where = f"field `{field.name}`: `cross`"
    names = field.cross or ()
    if len(names) != 2 or names[0] == names[1]:
        return [f"{where} must name two different fields, got {list(names)!r}."]
    if field.table:
        return [f"{where}: a cross has rows of its own; remove table."]
    found = []
    for name in names:
        one = fields.get(name)
        if one is None:
            found.append(f"{where} names `{name}`, which is not a field of this schema.")
        elif one.cross:
            found.append(f"{where} names `{name}`, which is a cross itself; cross two columns.")
        elif one.kind == "number":
            found.append(f"{where} names `{name}` of kind number, which has no identity. Write "
                         "its bucket as a column of the lake, of kind id, and cross that.")
        elif one.kind not in ("id", "hash"):
            found.append(f"{where} names `{name}` of kind {one.kind}; only fields with one value, "
                         "of kind id or hash, can be crossed.")
    if found:
        return found
    crossed = [fields[name] for name in names]
    if any(one.pii for one in crossed) and not field.pii:
        found.append(f"{where}: one of {', '.join(names)} is pii, so the cross must be as well; "
                     "set pii: true.")
    return found + _privilege_mistakes(field, crossed, "is made from")


def _key_mistakes(field: Field, fields: Mapping[str, Field]) -> list[str]:
    where = f"field `{field.name}`: `key`"
    key = fields.get(field.key or "")
    if key is None:
        return [f"{where} names `{field.key}`, which is not a field of this schema."]
    if key.kind not in ("id", "hash") or key.cross:
        return [f"{where} names `{key.name}`, but vectors are looked up by a column of kind id or "
                "hash."]
    if key.pii:
        return [f"{where} names `{key.name}`, which is pii: the file would hold what must be in "
                "no file."]
    return _privilege_mistakes(field, [key], "is looked up by")


def _privilege_mistakes(field: Field, sources: Sequence[Field], what: str) -> list[str]:
    if field.privileged:
        return []
    return [f"field `{field.name}` {what} `{source.name}`, which is privileged, so students could "
            "not be served with it either; set privileged: true."
            for source in sources if source.privileged]
