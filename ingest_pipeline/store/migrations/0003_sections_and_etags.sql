-- Sections of a document, labels of its pages, and what servers say of a file instead of a modification time.

ALTER TABLE files ADD etag text NOT NULL DEFAULT '';

CREATE TABLE sections (
    generation_id bigint NOT NULL REFERENCES generations ON DELETE CASCADE,
    ordinal       integer NOT NULL,     -- from 0, in document order
    level         integer NOT NULL,
    title         text NOT NULL,
    path          text NOT NULL,        -- its own and all its parents' titles
    page_from     integer NOT NULL,
    page_to       integer,              -- NULL while the file is read
    PRIMARY KEY (generation_id, ordinal)
);

ALTER TABLE chunks ADD page_label text, ADD section integer;  -- the ordinal of the section that the chunk begins in

CREATE OR REPLACE VIEW public.searchable_chunks AS
SELECT f.source, f.path, g.version, g.title, c.ordinal, c.page_from, c.page_to, c.char_from, c.char_to,
       c.heading, c.text, c.tokens, m.name AS model, e.embedding, c.page_label, c.section, s.path AS section_path
FROM files f
JOIN generations g USING (generation_id)
JOIN chunks c USING (generation_id)
JOIN models m ON m.model_id = g.model_id
JOIN embeddings e ON e.model_id = g.model_id AND e.text_hash = c.text_hash
LEFT JOIN sections s ON s.generation_id = c.generation_id AND s.ordinal = c.section;

CREATE VIEW public.document_sections AS
SELECT f.source, f.path, g.version, s.ordinal AS section, s.level, s.title, s.path AS section_path,
       s.page_from, s.page_to
FROM files f
JOIN generations g USING (generation_id)
JOIN sections s USING (generation_id);
COMMENT ON VIEW public.document_sections IS 'The outline of the live version of each file, in document order.';
