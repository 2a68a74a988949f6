//! Tables of rounds as public schemas of games have them, with other names.

/// A table, how it is attached, and two rounds of it.
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// The game's schema.
    pub(super) schema: &'static str,
    /// The options of `attach`, separated by line breaks.
    pub(super) attach: &'static str,
    /// Finishes the first round, then the second.
    pub(super) writes: [&'static str; 2],
    /// Their ids as JSON.
    pub(super) ids: [&'static str; 2],
    /// Keys of the first round, as JSON text.
    pub(super) has: &'static str,
    /// The slug of their game.
    pub(super) slug: &'static str,
}

/// The game is the same for all rounds.
pub(super) const ONE_GAME: Shape = Shape {
    name: "",
    schema: "",
    attach: "",
    writes: ["", ""],
    ids: ["", ""],
    has: "",
    slug: "dice",
};

pub(super) const SHAPES: [Shape; 27] = [
    Shape {
        name: "serial ids and a lookup table of games",
        schema: "create table titles (id smallint primary key, code text, label text, kind text); \
            insert into titles values (1, 'dice', 'Dice', 'chance'); \
            create table results (result_id serial primary key, title_id smallint references titles, \
              ended_at timestamptz, payload jsonb)",
        attach: "--id result_id\n--finished-at ended_at\n--extras payload\n--game-id title_id\n\
            --games titles\n--games-slug code\n--games-name label\n--games-type kind",
        writes: [
            "insert into results (title_id, ended_at, payload) values (1, '2026-01-17 00:45:42Z', '{\"a\": 1}')",
            "insert into results (title_id) values (1); update results set ended_at = now() where ended_at is null",
        ],
        ids: ["1", "2"],
        has: r#""game_id":1,"game_slug":"dice","game_type":"chance","finished_at":"2026-01-17T00:45:42Z","extras":"{\"a\": 1}""#,
        ..ONE_GAME
    },
    Shape {
        name: "uuids of rounds and of games",
        schema: "create table titles (id uuid primary key, code text, label text, kind text); \
            insert into titles values ('00000000-0000-0000-0000-0000000000AB', 'dice', 'Dice', 'chance'); \
            create table results (id uuid primary key, title_id uuid references titles, \
              finished_at timestamptz, extras jsonb)",
        attach: "--game-id title_id\n--games titles\n--games-slug code\n--games-name label\n--games-type kind",
        writes: [
            "insert into results values ('A0000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-0000000000ab', now(), '{}')",
            "insert into results values ('A0000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-0000000000ab', now(), '{}')",
        ],
        ids: [
            r#""a0000000-0000-0000-0000-000000000001""#,
            r#""a0000000-0000-0000-0000-000000000000""#,
        ],
        has: r#""game_id":"00000000-0000-0000-0000-0000000000ab""#,
        ..ONE_GAME
    },
    Shape {
        name: "text ids with odd characters",
        schema: "create table results (ref text primary key, at timestamptz, n int)",
        attach: "--id ref\n--finished-at at\n--extras-columns n\n--slug dice\n--type chance\n--game-id-value 7",
        writes: [
            "insert into results values ('a b/c:d%e\"f\\é', now(), 1)",
            "insert into results values (repeat('z', 200), now(), 2)",
        ],
        ids: [
            r#""a b/c:d%e\"f\\é""#,
            "\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\
             zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\"",
        ],
        has: r#""extras":"{\"n\": 1}""#,
        ..ONE_GAME
    },
    Shape {
        name: "varchar ids with a prefix",
        schema: "create table results (ref varchar(30) primary key, at timestamptz, n int)",
        attach: "--id ref\n--id-prefix wheel-1\n--finished-at at\n--extras-columns n\n--slug dice\n--type chance\n--game-id-value 7",
        writes: [
            "insert into results values ('x:1', now(), 1)",
            "insert into results values ('12', now(), 2)",
        ],
        ids: [r#""wheel-1:x:1""#, r#""wheel-1:12""#],
        has: r#""game_id":7"#,
        ..ONE_GAME
    },
    Shape {
        name: "char(n) ids without their padding",
        schema: "create table results (ref char(12) primary key, at timestamptz, n int)",
        attach: "--id ref\n--finished-at at\n--extras-columns n\n--slug dice\n--type chance\n--game-id-value 7",
        writes: [
            "insert into results values ('ABC', now(), 1)",
            "insert into results values ('ABCDEFGHIJKL', now(), 2)",
        ],
        ids: [r#""ABC""#, r#""ABCDEFGHIJKL""#],
        has: r#""extras":"{\"n\": 1}""#,
        ..ONE_GAME
    },
    Shape {
        name: "whole numerics",
        schema: "create table results (no numeric(30, 2) primary key, at timestamptz, n int)",
        attach: "--id no\n--finished-at at\n--extras-columns n\n--slug dice\n--type chance\n--game-id-value 7",
        writes: [
            "insert into results values (5.00, now(), 1)",
            "insert into results values (-12345678901234567890, now(), 2)",
        ],
        ids: [r#""5""#, r#""-12345678901234567890""#],
        has: r#""extras":"{\"n\": 1}""#,
        ..ONE_GAME
    },
    Shape {
        name: "a number for each game, a composite key",
        schema: "create table titles (id int primary key, slug text, name text, type text); \
            insert into titles values (1, 'dice', 'Dice', 'chance'), (2, 'wheel', 'Wheel', 'chance'); \
            create table results (game_id int references titles, no bigint, finished_at timestamptz, extras jsonb, primary key (game_id, no))",
        attach: "--id game_id,no\n--games titles",
        writes: [
            "insert into results values (1, 7, now(), '{}')",
            "insert into results values (1, 8, now(), '{}')",
        ],
        ids: [r#""1:7""#, r#""1:8""#],
        has: r#""game_id":1"#,
        ..ONE_GAME
    },
    Shape {
        name: "a shoe and a hand, a composite key with a text",
        schema: "create table hands (shoe uuid, place text, hand smallint, dealt timestamptz, cards text[], primary key (hand, shoe, place))",
        attach: "--id shoe,place,hand\n--finished-at dealt\n--extras-columns cards\n--slug dice\n--type cards\n--game-id-value 3",
        writes: [
            "insert into hands values ('b0000000-0000-0000-0000-000000000001', 'a:1', 4, now(), '{AS,KD}')",
            "insert into hands values ('b0000000-0000-0000-0000-000000000001', '', 5, now(), '{}')",
        ],
        ids: [
            r#""b0000000-0000-0000-0000-000000000001:a:1:4""#,
            r#""b0000000-0000-0000-0000-000000000001::5""#,
        ],
        has: r#""extras":"{\"cards\": [\"AS\", \"KD\"]}""#,
        ..ONE_GAME
    },
    Shape {
        name: "a serial with a prefix",
        schema: "create table spins (id serial primary key, at timestamptz, n int)",
        attach: "--id-prefix b\n--finished-at at\n--extras-columns n\n--slug dice\n--type slots\n--game-id-value 3",
        writes: ["insert into spins (at) values (now())", "insert into spins (at) values (now())"],
        ids: [r#""b:1""#, r#""b:2""#],
        has: r#""game_type":"slots""#,
        ..ONE_GAME
    },
    Shape {
        name: "ids beyond 2^53 as text",
        schema: "create table spins (id bigint primary key, at timestamptz, n int)",
        attach: "--id-text\n--finished-at at\n--extras-columns n\n--slug dice\n--type slots\n--game-id-value 3",
        writes: [
            "insert into spins values (9007199254740993, now(), 1)",
            "insert into spins values (-9223372036854775808, now(), 1)",
        ],
        ids: [r#""9007199254740993""#, r#""-9223372036854775808""#],
        has: r#""game_id":3"#,
        ..ONE_GAME
    },
    Shape {
        name: "a status beside the timestamp",
        schema: "create type state as enum ('open', 'settled', 'void'); \
            create table bets (id bigserial primary key, status state not null default 'open', \
              updated_at timestamp not null default now(), deleted_at timestamp, odds numeric)",
        attach: "--finished-at updated_at\n--time-zone Asia/Kolkata\n--finished-when status = 'settled' and deleted_at is null\n\
            --extras-columns odds\n--slug dice\n--type sports\n--game-id-value 3",
        writes: [
            "insert into bets (odds) values (1.50); update bets set status = 'settled', updated_at = '2026-01-17 05:30:00.5'",
            "insert into bets (odds, status) values (2, 'void'); update bets set status = 'settled' where id = 2",
        ],
        ids: ["1", "2"],
        has: r#""finished_at":"2026-01-17T00:00:00.5Z","extras":"{\"odds\": 1.50}""#,
        ..ONE_GAME
    },
    Shape {
        name: "a condition that fails for some rows",
        schema: "create table plays (id int primary key, at timestamptz default now(), payload jsonb)",
        attach: "--finished-at at\n--finished-when (payload->>'score')::int > 0 -- won\n--extras payload\n--slug dice\n--type arcade\n--game-id-value 3",
        writes: [
            "insert into plays (id, payload) values (1, '{\"score\": \"none\"}'), (2, '{\"score\": \"7\"}')",
            "insert into plays (id, payload) values (3, '{}'); update plays set payload = '{\"score\": 1}' where id = 3",
        ],
        ids: ["2", "3"],
        has: r#""extras":"{\"score\": \"7\"}""#,
        ..ONE_GAME
    },
    Shape {
        name: "milliseconds since 1970",
        schema: "create table matches (id bigint primary key, ended_ms bigint, state json)",
        attach: "--finished-at ended_ms\n--finished-at-unit ms\n--extras state\n--slug dice\n--type duel\n--game-id-value 3",
        writes: [
            "insert into matches values (1, 1768610742123, '{\"w\":1}'), (9, 9223372036854775807, null)",
            "insert into matches values (2, 1768610742124, null)",
        ],
        ids: ["1", "2"],
        has: r#""finished_at":"2026-01-17T00:45:42.123Z","extras":"{\"w\": 1}""#,
        ..ONE_GAME
    },
    Shape {
        name: "seconds since 1970 with a fraction",
        schema: "create table matches (id bigint primary key, ended numeric, state text)",
        attach: "--finished-at ended\n--finished-at-unit s\n--extras state\n--slug dice\n--type duel\n--game-id-value 3",
        writes: [
            "insert into matches values (1, 1768610742.000001, '{}'), (9, 'NaN', null)",
            "insert into matches values (2, 1768610743, null)",
        ],
        ids: ["1", "2"],
        has: r#""finished_at":"2026-01-17T00:45:42.000001Z""#,
        ..ONE_GAME
    },
    Shape {
        name: "seconds since 1970 in an integer and in floating point",
        schema: "create table matches (id bigint primary key, ended double precision, state text)",
        attach: "--finished-at ended\n--finished-at-unit s\n--extras state\n--slug dice\n--type duel\n--game-id-value 3",
        writes: [
            "insert into matches values (1, 1768610742.25, '{}'), (9, 'infinity', null)",
            "insert into matches values (2, 1768610743, null)",
        ],
        ids: ["1", "2"],
        has: r#""finished_at":"2026-01-17T00:45:42.25Z""#,
        ..ONE_GAME
    },
    Shape {
        name: "a draw a day",
        schema: "create table draws (draw_no int primary key, drawn_on date, numbers int[])",
        attach: "--id draw_no\n--finished-at drawn_on\n--time-zone Europe/Berlin\n--extras-columns numbers\n--slug dice\n--type lottery\n--game-id-value 3",
        writes: [
            "insert into draws values (1, '2026-01-17', '{1,2}'), (9, 'infinity', null)",
            "insert into draws values (2, '2026-01-17', null)",
        ],
        ids: ["1", "2"],
        has: r#""finished_at":"2026-01-16T23:00:00Z","extras":"{\"numbers\": [1, 2]}""#,
        ..ONE_GAME
    },
    Shape {
        name: "partitions by time, with an identity",
        schema: "create table results (id bigint generated always as identity, at timestamptz not null, done timestamptz, n int, primary key (id, at)) partition by range (at); \
            create table results_2026 partition of results for values from ('2026-01-01') to ('2027-01-01')",
        attach: "--finished-at done\n--extras-columns n\n--slug dice\n--type chance\n--game-id-value 7",
        writes: [
            "insert into results (at, done) values ('2026-05-05', now())",
            "insert into results_2026 (id, at) overriding system value values (2, '2026-05-05'); update results set done = now() where done is null",
        ],
        ids: ["1", "2"],
        has: r#""game_id":7"#,
        ..ONE_GAME
    },
    Shape {
        name: "partitions by game, with a composite key",
        schema: "create table results (shop text, no int, done timestamptz, n int, primary key (shop, no)) partition by list (shop); \
            create table results_a partition of results for values in ('a'); \
            create table results_b partition of results for values in ('b')",
        attach: "--id shop,no\n--finished-at done\n--extras-columns n\n--slug-column shop\n--type chance\n--game-id shop",
        writes: [
            "insert into results values ('a', 7, now(), 1)",
            "insert into results_a values ('a', 8, now(), 1)",
        ],
        ids: [r#""a:7""#, r#""a:8""#],
        has: r#""game_id":"a","game_slug":"a""#,
        slug: "a",
    },
    Shape {
        name: "slug and type beside the round, a constant id",
        schema: "create table results (id int primary key, finished_at timestamptz, extras jsonb, mode text, family varchar(9))",
        attach: "--slug-column mode\n--type-column family\n--game-id-value one",
        writes: [
            "insert into results values (1, now(), '{}', 'dice', 'chance')",
            "insert into results values (2, now(), '{}', 'dice', 'chance')",
        ],
        ids: ["1", "2"],
        has: r#""game_id":"one","game_slug":"dice","game_type":"chance""#,
        ..ONE_GAME
    },
    Shape {
        name: "a constant slug, the type and the id in columns",
        schema: "create table results (id int primary key, finished_at timestamptz, extras jsonb, variant uuid, family char(9))",
        attach: "--slug dice\n--type-column family\n--game-id variant",
        writes: [
            "insert into results values (1, now(), '{}', 'c0000000-0000-0000-0000-000000000001', 'chance')",
            "insert into results values (2, now(), '{}', 'c0000000-0000-0000-0000-000000000001', 'chance')",
        ],
        ids: ["1", "2"],
        has: r#""game_id":"c0000000-0000-0000-0000-000000000001","game_slug":"dice","game_type":"chance""#,
        ..ONE_GAME
    },
    Shape {
        name: "one type for a table of games",
        schema: "create table games (id text primary key, slug text, name text); insert into games values ('g/1', 'dice', 'Dice'); \
            create table results (id int primary key, game_id varchar(9) references games, finished_at timestamptz, extras jsonb)",
        attach: "--type chance",
        writes: [
            "insert into results values (1, 'g/1', now(), null)",
            "insert into results values (2, 'g/1', now(), '{}')",
        ],
        ids: ["1", "2"],
        has: r#""game_id":"g/1","game_slug":"dice","game_type":"chance""#,
        ..ONE_GAME
    },
    Shape {
        name: "extras whose text depends on the session",
        schema: "create table results (id int primary key, finished_at timestamptz, took interval, at timestamptz, bytes bytea, odds double precision)",
        attach: "--extras-columns took,at,bytes,odds\n--slug dice\n--type chance\n--game-id-value 1",
        writes: [
            "set intervalstyle = 'iso_8601'; set timezone = 'Asia/Tokyo'; set bytea_output = 'escape'; set datestyle = 'German'; set extra_float_digits = -9; \
             insert into results values (1, now(), '1 day 2 hours', '2026-01-17T00:00:00Z', '\\x00ff', 0.1::float8 + 0.2::float8); reset all",
            "insert into results values (2, now())",
        ],
        ids: ["1", "2"],
        has: r#""extras":"{\"at\": \"2026-01-17T00:00:00+00:00\", \"odds\": 0.30000000000000004, \"took\": \"1 day 02:00:00\", \"bytes\": \"\\\\x00ff\"}""#,
        ..ONE_GAME
    },
    Shape {
        name: "names as an ORM in camel case writes them",
        schema: "create table \"Game\" (\"id\" text primary key, \"slug\" text, \"displayName\" text, \"kind\" text); insert into \"Game\" values ('c1', 'dice', 'Dice', 'chance'); \
            create table \"GameRound\" (\"id\" text not null, \"gameId\" text not null, \"endedAt\" timestamp(3), \"resultJson\" jsonb, constraint \"GameRound_pkey\" primary key (\"id\"))",
        attach: "--finished-at endedAt\n--extras resultJson\n--game-id gameId\n--games \"Game\"\n--games-name displayName\n--games-type kind",
        writes: [
            "insert into \"GameRound\" values ('cl9ebqhxk00003b600tymydho', 'c1', '2026-01-17 00:45:42.5', '{}')",
            "insert into \"GameRound\" values ('cl9ebqhxk00003b600tymydhp', 'c1', now(), '{}')",
        ],
        ids: [r#""cl9ebqhxk00003b600tymydho""#, r#""cl9ebqhxk00003b600tymydhp""#],
        has: r#""game_id":"c1","game_slug":"dice","game_type":"chance","finished_at":"2026-01-17T00:45:42.5Z""#,
        ..ONE_GAME
    },
    Shape {
        name: "timestamps that are never null, with a flag",
        schema: "create table plays (id bigserial primary key, completed boolean not null default false, created_at timestamp(6) not null default now(), updated_at timestamp(6) not null default now(), data text)",
        attach: "--finished-at updated_at\n--finished-when completed\n--extras data\n--slug dice\n--type chance\n--game-id-value 1",
        writes: [
            "insert into plays (data) values ('{}'); update plays set completed = true",
            "insert into plays (completed) values (true)",
        ],
        ids: ["1", "2"],
        has: r#""extras":"{}""#,
        ..ONE_GAME
    },
    Shape {
        name: "domains of domains",
        schema: "create domain key as integer check (value > 0); create domain round_key as key; create domain moment as timestamptz(3); \
            create table plays (id round_key primary key, at moment, n int)",
        attach: "--finished-at at\n--extras-columns n\n--slug dice\n--type chance\n--game-id-value 1",
        writes: [
            "insert into plays values (1, '2026-01-17 00:45:42.1239Z')",
            "insert into plays values (2, now())",
        ],
        ids: ["1", "2"],
        has: r#""finished_at":"2026-01-17T00:45:42.124Z""#,
        ..ONE_GAME
    },
    Shape {
        name: "rows that are inserted when a round has ended",
        schema: "create table log (id uuid primary key, logged timestamptz not null default now(), line jsonb)",
        attach: "--finished-at logged\n--yes\n--extras line\n--slug dice\n--type chance\n--game-id-value 1",
        writes: [
            "insert into log (id, line) values ('d0000000-0000-0000-0000-000000000001', '[1]')",
            "insert into log (id) values ('d0000000-0000-0000-0000-000000000002') on conflict (id) do update set line = '[2]'",
        ],
        ids: [
            r#""d0000000-0000-0000-0000-000000000001""#,
            r#""d0000000-0000-0000-0000-000000000002""#,
        ],
        has: r#""extras":"[1]""#,
        ..ONE_GAME
    },
    Shape {
        name: "a unique key beside the primary key, and a generated column",
        schema: "create table plays (pk bigserial primary key, code text not null unique, points int, twice int generated always as (points * 2) stored, ended timestamptz)",
        attach: "--id code\n--finished-at ended\n--finished-when twice >= 4\n--extras-columns twice\n--slug dice\n--type chance\n--game-id-value 1",
        writes: [
            "insert into plays (code, points, ended) values ('low', 1, now()), ('high', 3, now())",
            "update plays set points = 2 where code = 'low'",
        ],
        ids: [r#""high""#, r#""low""#],
        has: r#""extras":"{\"twice\": 6}""#,
        ..ONE_GAME
    },
];
