"""Read records of a schema registry: Avro, Protobuf and JSON behind a schema id.

registered.py       a schema as a registry has it, and the framing in front of a record
avro_schema.py      an Avro schema → its parts, and whether a spec can be read from it
avro.py             one record of Avro → an event (fastavro reads)
avro_columns.py     a batch of Avro → values by path, in arrays
json_schema.py      JSON behind a schema id, and whether its JSON Schema fits a spec
proto_text.py       a .proto text → a FileDescriptorProto
protobuf_schema.py  a Protobuf schema → its messages, and whether a spec can be read from one
protobuf.py         one record of Protobuf → an event (Google's reader parses)
protobuf_columns.py a batch of Protobuf → values by path, in arrays
reader.py           records of a format → events; each schema id is compiled once
"""
