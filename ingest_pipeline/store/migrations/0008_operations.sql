-- What the commands of an operator need: under which limits gaps were recorded, and which files are kept out.

-- The limits under which a generation was parsed, in bytes and seconds: with higher ones its gaps are worth another try.
ALTER TABLE generations ADD limits jsonb NOT NULL DEFAULT '{}';

-- Files that were erased and must not come back, though their source holds them. Only a hash: the name is erased, too.
CREATE TABLE ignored_files (
    name_hash  bytea PRIMARY KEY,       -- SHA-256 of the source, a NUL, and the path
    ignored_at timestamptz NOT NULL DEFAULT now()
);
