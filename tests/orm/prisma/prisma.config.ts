// Prisma's native schema engine is downloaded from its own site. The package contains the same engine as WebAssembly, which this
// file selects, with three repairs of @prisma/adapter-pg 6.19.
import { randomUUID } from "node:crypto";
import { defineConfig } from "prisma/config";
import { PrismaPg } from "@prisma/adapter-pg";
import pg from "pg";

// The adapter does not know the types of PostgreSQL's catalog: name, "char" and arrays of them are read as text.
const texts: Record<number, number> = { 18: 25, 19: 25, 1002: 1009, 1003: 1009 };
const addFields = (pg as any).Result.prototype.addFields;
(pg as any).Result.prototype.addFields = function (fields: any[]) {
  for (const field of fields) field.dataTypeID = texts[field.dataTypeID] ?? field.dataTypeID;
  return addFields.call(this, fields);
};

const pool = (database: string) => {
  const made = new pg.Pool({ host: process.env.PGHOST, user: "postgres", database });
  made.on("error", () => {});
  return made;
};

// The adapter splits a script at each semicolon, also within quotes. The native engine sends all of it as one query, which
// PostgreSQL runs as one transaction.
const whole = (connection: any, own: pg.Pool) => {
  connection.executeScript = async (script: string) => {
    await own.query(script).catch((error) => connection.onError(error));
  };
  return connection;
};

const main = pool("prisma");

class Adapter extends PrismaPg {
  constructor() {
    super(main, { disposeExternalPool: true });
  }
  async connect() {
    return whole(await super.connect(), main);
  }
  // The adapter's own drops the shadow database while it is connected to it.
  async connectToShadowDb() {
    const name = `shadow_${randomUUID()}`;
    const admin = pool("prisma");
    await admin.query(`create database "${name}"`);
    const own = pool(name);
    const shadow = whole(await new PrismaPg(own, {}).connect(), own);
    shadow.dispose = async () => {
      await own.end();
      await admin.query(`drop database "${name}" with (force)`);
      await admin.end();
    };
    return shadow;
  }
}

export default defineConfig({
  experimental: { adapter: true },
  engine: "js",
  schema: "schema.prisma",
  migrations: { path: "migrations" },
  adapter: async () => new Adapter() as any,
});
