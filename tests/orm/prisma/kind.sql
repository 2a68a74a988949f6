do $$ begin
  if to_regprocedure('datastream.before_change(text)') is not null then
    perform datastream.before_change('games');
  end if;
end $$;

-- AlterTable
ALTER TABLE "games" ALTER COLUMN "kind" SET DATA TYPE VARCHAR(99);

do $$ begin
  if to_regprocedure('datastream.after_change(text, jsonb)') is not null then
    perform datastream.after_change('games');
  end if;
end $$;
