// The helper of docs/migration-tools.md.
const call = (runner, name, ...values) =>
  runner.query(`do $$ begin if to_regprocedure('datastream.before_change(text)') is not null then
    perform datastream.${name}(${values.map((value) => `'${value}'`).join(", ")}); end if; end $$`);

exports.beforeChange = (runner, table) => call(runner, "before_change", table);
exports.afterChange = (runner, table, options = "{}") => call(runner, "after_change", table, options);
