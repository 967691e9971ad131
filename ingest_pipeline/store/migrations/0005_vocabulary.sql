-- One word for one concept (docs/glossary.md): the columns that code and documentation call otherwise are renamed.

ALTER TABLE generations RENAME COLUMN recipe TO fingerprint;
ALTER TABLE files RENAME COLUMN recipe TO fingerprint;
ALTER TABLE files RENAME COLUMN deaths TO kills;
ALTER TABLE incidents RENAME COLUMN forgiven TO reset;
