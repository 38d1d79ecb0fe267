// One module under both names: an import and a require share it.
import sqliteIvf from "./index.cjs";

export const {
  deserializeBFloat16,
  deserializeBits,
  deserializeFloat16,
  deserializeFloat32,
  deserializeInt8,
  getLoadablePath,
  load,
  pack,
  serializeBFloat16,
  serializeBits,
  serializeFloat16,
  serializeFloat32,
  serializeInt8,
  unpack,
} = sqliteIvf;
