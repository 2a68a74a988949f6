// The game's tables. The scenario sets NOTE (a new column), KIND (the length of one that we read) and PLAIN (our indexes are not
// declared).
require("reflect-metadata");
const { DataSource, EntitySchema } = require("typeorm");

const ours = (name) => (process.env.PLAIN ? [] : [{ name, synchronize: false, columns: ["game_id"] }]);
const status = { type: "varchar", default: "open" };

const Game = new EntitySchema({
  name: "Game",
  tableName: "games",
  columns: {
    id: { type: "bigint", primary: true, generated: "increment" },
    slug: { type: "varchar", unique: true },
    name: { type: "varchar" },
    kind: { type: "varchar", length: process.env.KIND ?? "" },
  },
});
const Round = new EntitySchema({
  name: "Round",
  tableName: "rounds",
  columns: {
    id: { type: "bigint", primary: true, generated: "increment" },
    game_id: { type: "bigint" },
    status: { type: "enum", enum: ["open", "settled", ...(process.env.VOID ? ["void"] : [])], default: "open" },
    finished_at: { type: "timestamptz", nullable: true },
    extras: { type: "jsonb", default: {} },
    ...(process.env.NOTE ? { note: { type: "varchar", nullable: true } } : {}),
  },
  indices: ours("datastream_latest_1"),
});
const Spin = new EntitySchema({
  name: "Spin",
  tableName: "spins",
  columns: {
    id: { type: "uuid", primary: true, generated: "uuid" },
    game_id: { type: "bigint" },
    status,
    updated_at: { type: "timestamptz", updateDate: true },
    extras: { type: "jsonb", default: {} },
  },
  indices: ours("datastream_latest_2"),
});
const Hand = new EntitySchema({
  name: "Hand",
  tableName: "hands",
  columns: {
    table_no: { type: "int", primary: true },
    hand_no: { type: "bigint", primary: true },
    game_id: { type: "bigint" },
    finished_at: { type: "timestamptz", nullable: true },
    bet: { type: "int", default: 0 },
  },
  indices: ours("datastream_latest_3"),
});

module.exports = new DataSource({
  type: "postgres",
  host: process.env.PGHOST,
  username: "postgres",
  database: process.env.DATABASE ?? "typeorm",
  entities: [Game, Round, Spin, Hand],
  migrations: ["migrations/*.js"],
});
