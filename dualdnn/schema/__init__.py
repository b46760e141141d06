from dualdnn.schema.field import Field
from dualdnn.schema.parse import schema_from_dict
from dualdnn.schema.schema import MAIN_TABLE, Schema

__all__ = ["MAIN_TABLE", "Field", "Schema", "schema_from_dict"]
