-- Search by words beside search by vectors: the terms of each chunk in the language of its text, and the functions that
-- ask both and fuse what they say. All of it is derived from `chunks`: nothing can be out of step with it.

-- Case folding needs a collation that knows all letters: the embedded server's default is C, which knows those of ASCII.
DO $$
DECLARE
    folding text := (
        SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
        WHERE c.collname IN ('pg_c_utf8', 'und-x-icu', 'C.UTF-8', 'C.utf8', 'default')
          AND c.collencoding IN (-1, pg_char_to_encoding('UTF8'))
        ORDER BY array_position(ARRAY['pg_c_utf8', 'und-x-icu', 'C.UTF-8', 'C.utf8', 'default']::name[], c.collname)
        LIMIT 1);
BEGIN
    EXECUTE format($f$
        CREATE FUNCTION folded(t text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
        AS 'SELECT lower(normalize(t, NFKC) COLLATE %s)'
    $f$, folding);
END $$;
COMMENT ON FUNCTION folded IS 'A text in small letters, with ligatures and wide letters as plain ones.';

-- Scripts that write no spaces between words: Thai, Lao, Myanmar, Khmer, kana, Han; Hangul, too, since a Korean word
-- carries its endings. In them every pair of neighbours is a word, as in Lucene's CJK analyzer.
CREATE FUNCTION pair_letters() RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT $c$\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff$c$ ||
           $c$\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff$c$
$$;
CREATE FUNCTION has_pairs(t text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT t ~ ('[' || ingest.pair_letters() || ']')
$$;

-- Words and numbers only, with a space between them. All signs of punctuation but a decimal point go here, because the parser of a database whose
-- locale is C takes a quotation mark for a letter, and others take `a.b` for a host and `a/b` for a file.
CREATE FUNCTION words_of(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    pair constant text := ingest.pair_letters();
    words text := regexp_replace(
        ingest.folded(t),
        '[\u0001--/:-@[-`{-©«-´¶-¹»-¿×÷\u2000-\u2bff\u2e00-\u2e7f\u3000-\u303f\ufe10-\ufe6f]+|\.(?![0-9])|(?<![0-9])\.', ' ', 'g');
BEGIN
    IF ingest.has_pairs(words) THEN
        words := regexp_replace(words, '([^ ' || pair || '])(?=[' || pair || '])', '\1 ', 'g');
        words := regexp_replace(words, '([' || pair || '])(?=[^ ' || pair || '])', '\1 ', 'g');
        -- The pairs that begin at an odd letter of each run, then those that begin at an even one.
        words := regexp_replace(words, '([' || pair || '])([' || pair || '])', '\1\2 ', 'g') || ' ' || regexp_replace(
            regexp_replace(words, '(?<![' || pair || '])([' || pair || '])(?=[' || pair || '])', ' ', 'g'),
            '([' || pair || '])([' || pair || '])', '\1\2 ', 'g');
    END IF;
    RETURN words;
END $$;

-- Frequent words, from Snowball's lists of stop words; only those of at least two letters, and few that languages share.
-- JSON, with the languages of each word: the planner computes it once, and a look into it takes less than a join.
CREATE FUNCTION frequent_words() RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT jsonb_object_agg(w.word, w.languages) FROM (SELECT w AS word, jsonb_agg(l.language) AS languages FROM (VALUES
        ('arabic', '{في,من,على,أن,إلى,التي,عن,هذا,ما,الذي,كان,مع,هذه,لا,كما,ذلك,بين,بعد}'::text[]),
        ('danish', '{og,det,at,en,den,til,er,som,på,af,med,for,ikke,der,et,har,var,jeg,fra,blev,efter,eller,hvor}'::text[]),
        ('dutch', '{de,het,een,en,van,is,dat,niet,op,te,zijn,met,voor,die,aan,er,ook,als,bij,naar,worden,werd,heeft,deze}'::text[]),
        ('english', '{the,of,and,to,in,is,that,for,it,with,as,was,on,are,be,this,by,at,from,which,or,an,have,not,were,has,their,what,how,does,who,when,where,why,can,if,we,you,do}'::text[]),
        ('finnish', '{ja,on,ei,se,että,oli,hän,ovat,mutta,joka,kun,myös,sekä,tai,niin,kuin,sen,jotka,ole,mitä}'::text[]),
        ('french', '{le,la,les,des,et,est,une,dans,que,qui,pour,sur,pas,du,au,par,avec,sont,ce,cette,il,elle,plus,ne,quelle,quel,comment,où}'::text[]),
        ('german', '{der,die,und,das,ist,nicht,den,von,zu,mit,sich,des,auf,für,im,dem,ein,eine,als,auch,wie,was,bei,wird,oder,werden,einer,wer,sind}'::text[]),
        ('greek', '{και,το,να,του,της,η,με,για,την,από,που,στο,οι,τα,των,είναι,στην,δεν,τη,ότι}'::text[]),
        ('hungarian', '{az,és,hogy,nem,is,egy,meg,ez,volt,csak,de,már,vagy,mint,kell,amely,ha,még}'::text[]),
        ('italian', '{il,di,che,la,per,un,una,del,della,in,con,sono,non,le,gli,dei,nel,alla,come,si,da,cosa,quale,chi}'::text[]),
        ('norwegian', '{og,det,at,en,den,til,er,som,på,av,med,for,ikke,der,et,har,var,jeg,fra,ble,etter,eller,hvor}'::text[]),
        ('portuguese', '{os,de,que,um,uma,para,com,não,do,da,dos,das,no,na,por,mais,como,mas,foi,ao,ele,seu,qual,quem}'::text[]),
        ('romanian', '{și,în,de,la,cu,că,nu,pe,din,este,un,care,mai,pentru,sau,sunt,fost,după,prin,al,ai,ale}'::text[]),
        ('russian', '{не,на,что,по,как,это,из,но,для,он,она,они,от,то,его,так,или,был,была,быть,при,если}'::text[]),
        ('spanish', '{el,la,los,las,de,que,en,un,una,por,con,para,se,del,es,su,al,como,más,pero,sus,no,qué,cuál,quién,cómo}'::text[]),
        ('swedish', '{och,att,det,som,en,på,är,av,för,med,till,den,inte,om,ett,har,de,var,jag,från,efter,eller,hur,vad}'::text[]),
        ('turkish', '{ve,bir,bu,da,de,için,ile,olarak,çok,daha,olan,gibi,ne,kadar,sonra,olduğu,en,ya,mi}'::text[])
    ) AS l (language, words), unnest(l.words) AS w GROUP BY w) AS w
$$;

-- The text-search configuration of a text: that of the language whose frequent words it has. `simple` where it has few
-- (a table, code, a list of names), `pairs` where a fifth of its letters are of a script without spaces.
CREATE FUNCTION text_language(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE STRICT AS $$
DECLARE
    beginning text := left(t, 600);
    words text[];
    language text;
BEGIN
    IF ingest.has_pairs(beginning) AND length(regexp_replace(beginning, '[' || ingest.pair_letters() || ']', '', 'g')) < 0.8 * length(beginning) THEN
        RETURN 'pairs';
    END IF;
    words := regexp_split_to_array(lower(beginning), '[\u0001-@[-`{-¿\u2000-\u2bff\u3000-\u303f]+');
    SELECT l.language INTO language
    FROM unnest(words) AS w (word), jsonb_array_elements_text(ingest.frequent_words() -> w.word) AS l (language)
    GROUP BY l.language
    -- A twelfth of the words: prose has a third, a table of names by chance one of them.
    HAVING count(DISTINCT w.word) >= 2 AND count(*) * 12 >= cardinality(words)
    ORDER BY count(*) DESC, count(DISTINCT w.word) DESC, l.language LIMIT 1;
    RETURN coalesce(language, 'simple');
END $$;

-- The words of a text without their endings and without stop words, as its language has them.
CREATE FUNCTION text_terms(language text, t text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT to_tsvector(
        CASE WHEN language IN ('pairs', 'simple') THEN 'pg_catalog.simple' ELSE 'pg_catalog.' || language END::regconfig,
        ingest.words_of(t))
$$;

ALTER TABLE chunks
    ADD language text GENERATED ALWAYS AS (ingest.text_language(text)) STORED,
    ADD terms tsvector GENERATED ALWAYS AS (
        ingest.text_terms(ingest.text_language(text), coalesce(heading || E'\n', '') || text)) STORED;
-- The frequent terms with their frequencies are those of the planner's statistics: 2,000 of them.
ALTER TABLE chunks ALTER terms SET STATISTICS 200;
CREATE INDEX chunks_terms ON chunks USING gin (terms) WITH (gin_pending_list_limit = 512);  -- a search reads it whole

-- The scope of a search is JSON with the fields of `SearchScope`, and `shown_under`: the number of a model under which
-- readers see the files. Lists of files also ask for `status` and `error`. Conditions are written out, so that the planner sees what is asked and nothing else.

CREATE FUNCTION file_condition(scope jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(nullif(concat_ws(' AND ',
        'f.source = ' || quote_literal(scope ->> 'source'),
        CASE WHEN scope ->> 'path' ~ '[*?]'
            THEN 'f.path LIKE ' || quote_literal(
                translate(regexp_replace(scope ->> 'path', '([\\%_])', '\\\1', 'g'), '*?', '%_'))
            ELSE 'starts_with(f.path, ' || quote_literal(scope ->> 'path') || ')' END,
        'f.media_type LIKE ' || quote_literal(
            translate(regexp_replace(scope ->> 'media_type', '([\\%_])', '\\\1', 'g'), '*', '%')),
        'f.updated_at >= ' || quote_literal(scope ->> 'since'),
        'f.updated_at < ' || quote_literal(scope ->> 'until'),
        'f.batch = ' || quote_literal(scope ->> 'batch'),
        'f.status = ' || quote_literal(scope ->> 'status'),
        'f.error = ' || quote_literal(scope ->> 'error'),
        'f.model_id = ' || quote_literal(scope ->> 'shown_under')), ''), 'true')
$$;

CREATE FUNCTION passage_condition(scope jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT concat_ws(' AND ', 'true',
        'c.page_to >= ' || quote_literal(scope ->> 'page_from'),
        'c.page_from <= ' || quote_literal(scope ->> 'page_to'),
        'EXISTS (SELECT FROM ingest.sections s WHERE s.generation_id = c.generation_id AND s.ordinal = c.section
            AND strpos(ingest.folded(s.path), ingest.folded(' || quote_literal(scope ->> 'section') || ')) > 0)',
        'EXISTS (SELECT FROM ingest.entities n WHERE n.text_hash = c.text_hash
            AND lower(n.name) = lower(' || quote_literal(scope ->> 'entity') || '))')
$$;

-- The chunks that a search may answer with: of files that readers see, under a model that can answer for them.
CREATE FUNCTION chunk_condition(model integer, scope jsonb) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT format(
        'EXISTS (SELECT FROM ingest.generation_models m WHERE m.generation_id = c.generation_id AND m.model_id = %s)
         AND EXISTS (SELECT FROM ingest.files f WHERE f.generation_id = c.generation_id AND %s) AND %s',
        model, ingest.file_condition(scope), ingest.passage_condition(scope))
$$;

-- A term as the text of a question, whatever signs it has.
CREATE FUNCTION quoted_term(term text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT '''' || replace(replace(term, '\', '\\'), '''', '''''') || ''''
$$;

-- The words of a query as questions to `terms`, each with the share of texts that have it; NULL: too rare to be known.
-- In a language that the query has frequent words of, or else in every language that the store has.
CREATE FUNCTION query_terms(query text, language text) RETURNS TABLE (question tsquery, forms integer, share real)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$  -- each word is a question to the GIN index, however frequent the planner takes it to be
DECLARE
    languages text[];
BEGIN
    IF language IN ('simple', 'pairs') THEN
        SELECT s.most_common_vals::text::text[] INTO languages FROM pg_stats s
        WHERE s.schemaname = 'ingest' AND s.tablename = 'chunks' AND s.attname = 'language';
        languages := array_remove(array_remove(coalesce(languages, ARRAY['english']), 'pairs'), 'simple');
    ELSE
        languages := ARRAY[language];
    END IF;
    RETURN QUERY
    WITH written AS (
        SELECT w.word, min(w.place) AS place FROM string_to_table(ingest.words_of(left(query, 10000)), ' ')
            WITH ORDINALITY AS w (word, place)
        WHERE w.word <> '' AND length(w.word) <= 200 GROUP BY w.word ORDER BY 2 LIMIT 500
    ), words AS (
        -- A single sign is the end of a run of pairs.
        SELECT w.word, w.place FROM written w
        WHERE NOT (length(w.word) = 1 AND ingest.has_pairs(w.word)
                   AND EXISTS (SELECT FROM written o WHERE length(o.word) = 2 AND ingest.has_pairs(o.word)))
    ), forms AS (
        SELECT w.place, s.lexeme FROM words w, unnest(languages) AS l (language),
             unnest(ingest.text_terms(l.language, w.word)) AS s
        UNION
        SELECT w.place, s.lexeme FROM words w, unnest(ingest.text_terms('simple', w.word)) AS s
        -- A stop word of every language is none here either.
        WHERE languages = '{}' OR EXISTS (SELECT FROM unnest(languages) AS l (language)
                                          WHERE ingest.text_terms(l.language, w.word) <> '')
    ), common AS (
        SELECT u.lexeme, u.share FROM pg_stats s,
             unnest(s.most_common_elems::text::text[], s.most_common_elem_freqs) AS u (lexeme, share)
        WHERE s.schemaname = 'ingest' AND s.tablename = 'chunks' AND s.attname = 'terms'
    ), questions AS (
        SELECT min(w.place) AS place, string_agg(ingest.quoted_term(w.lexeme), ' | ' ORDER BY w.lexeme)::tsquery AS question,
               count(*) AS forms, sum(c.share) AS share
        FROM forms w LEFT JOIN common c ON c.lexeme = w.lexeme GROUP BY w.place
    )
    -- The rarest first; 32 of those that stand anywhere decide.
    SELECT q.question, q.forms::integer, q.share::real FROM questions q
    WHERE q.share IS NOT NULL OR EXISTS (SELECT FROM ingest.chunks c WHERE c.terms @@ q.question)
    ORDER BY q.share NULLS FIRST, q.place LIMIT 32;
END $$;

-- How many chunks the files of a scope have; of the whole store about how many. A few are searched one by one.
CREATE FUNCTION chunks_in(scope jsonb) RETURNS bigint LANGUAGE plpgsql STABLE AS $$
DECLARE
    chunks bigint := (SELECT reltuples FROM pg_class WHERE oid = 'ingest.chunks'::regclass);
BEGIN
    IF ingest.file_condition(scope) <> 'true' OR chunks < 20000 THEN
        EXECUTE format($q$
            SELECT sum(g.chunks) FROM ingest.generations g
            WHERE EXISTS (SELECT FROM ingest.files f WHERE f.generation_id = g.generation_id AND %s)
        $q$, ingest.file_condition(scope)) INTO chunks;
    END IF;
    RETURN coalesce(chunks, 0);
END $$;

-- The texts that have words of a query, best first: each word counts by its rarity (as in BM25) times its frequency in
-- the text, n / (n + 0.64), which is what `ts_rank` gives for one word. Candidates are the texts with the rarest words,
-- about `most` of them; the others only add to the score. 1,000 have on SciFact the nDCG@10 of all texts.
CREATE FUNCTION lexical_texts(query text, model integer, scope jsonb, most integer, wanted integer)
RETURNS TABLE (text_hash bytea, score double precision) LANGUAGE plpgsql STABLE
SET enable_seqscan = off AS $$
DECLARE
    few constant integer := 10000;  -- chunks: reading the terms of so many takes 50 ms (2026-11)
    language text := ingest.text_language(query);
    condition text := ingest.chunk_condition(model, scope);
    questions tsquery[];
    forms integer[];
    shares real[];
    texts double precision := greatest(1000, (SELECT reltuples FROM pg_class WHERE oid = 'ingest.chunks'::regclass));
    probes tsquery[] := '{}';
    expected double precision := 0;
    probed text;
BEGIN
    SELECT array_agg(t.question), array_agg(t.forms), array_agg(t.share) INTO questions, forms, shares
    FROM ingest.query_terms(query, language) t;
    IF questions IS NULL THEN
        RETURN;
    END IF;
    IF language NOT IN ('simple', 'pairs') THEN
        condition := format('c.language IN (%L, ''simple'') AND ', language) || condition;
    END IF;
    IF scope <> '{}' AND ingest.chunks_in(scope) <= few THEN
        probes := questions;
        probed := format($q$
            SELECT p.number, c.generation_id, c.ordinal
            FROM (SELECT c.generation_id, c.ordinal, c.terms FROM ingest.chunks c WHERE %s OFFSET 0) c
            JOIN unnest($1) WITH ORDINALITY AS p (question, number) ON c.terms @@ p.question
        $q$, condition);
    ELSE
        FOR i IN 1 .. cardinality(questions) LOOP
            IF expected > 0 AND expected + coalesce(shares[i], 0) * texts > most THEN
                -- Of frequent words only the texts that have the rarest word, too.
                probes := probes || (questions[1] && questions[i]);
            ELSE
                probes := probes || questions[i];
                expected := expected + coalesce(shares[i], 0) * texts;
            END IF;
        END LOOP;
        -- Of a frequent word so many texts are looked at, whether the scope lets them in or not.
        probed := format($q$
            SELECT p.number, c.generation_id, c.ordinal
            FROM unnest($1) WITH ORDINALITY AS p (question, number), LATERAL (
                SELECT c.generation_id, c.ordinal
                FROM (SELECT * FROM ingest.chunks c WHERE c.terms @@ p.question LIMIT 8 * $2) c
                WHERE %s LIMIT greatest(100, $2 / cardinality($1))
            ) c
        $q$, condition);
    END IF;
    RETURN QUERY EXECUTE format($q$
        WITH probes AS MATERIALIZED (%s
        ), rarities AS MATERIALIZED (
            -- Of a rare word the texts were just counted.
            SELECT q.question, q.forms * 10 * ln(1 + $6 / (0.5 + coalesce(
                       nullif(q.share, 0) * $6, (SELECT count(*) FROM probes p WHERE p.number = q.number)))) AS weight
            FROM unnest($3, $4, $5) WITH ORDINALITY AS q (question, forms, share, number)
        ), scored AS (
            SELECT c.text_hash, (SELECT sum(r.weight * ts_rank(t.terms, r.question)) FROM rarities r) AS score
            FROM (SELECT DISTINCT p.generation_id, p.ordinal FROM probes p) p
            JOIN ingest.chunks c USING (generation_id, ordinal),
                 LATERAL (SELECT c.terms || ''::tsvector AS terms OFFSET 0) t  -- decompressed once, not for each word
        )
        SELECT s.text_hash, max(s.score) FROM scored s GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $7
    $q$, probed) USING probes, most, questions, forms, shares, texts, wanted;
END $$;

-- The texts whose vectors are nearest to a query's: by the HNSW index, which goes on until it has enough that meet the
-- scope; exactly where the scope holds few chunks, or where the index ends before it has enough.
CREATE FUNCTION nearest_texts(embedding halfvec, model integer, scope jsonb, wanted integer)
RETURNS TABLE (text_hash bytea, distance double precision) LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT AS $$  -- where pgvector is
DECLARE
    few constant integer := 10000;  -- chunks: an exact search of so many takes 50 ms (2026-11)
    given bigint;
    vector text := format('e.embedding::halfvec(%1$s) <=> $1::halfvec(%1$s)', vector_dims(embedding));
BEGIN
    IF ingest.chunks_in(scope) > few THEN
        PERFORM set_config('hnsw.ef_search', least(1000, wanted)::text, true),
                set_config('hnsw.iterative_scan', 'strict_order', true);
        RETURN QUERY EXECUTE format($q$
            SELECT e.text_hash, %1$s FROM ingest.embeddings e
            WHERE e.model_id = %2$s AND EXISTS (
                SELECT FROM ingest.chunks c WHERE c.text_hash = e.text_hash AND %3$s)
            ORDER BY %1$s LIMIT $2
        $q$, vector, model, ingest.chunk_condition(model, scope)) USING embedding, wanted;
        GET DIAGNOSTICS given = ROW_COUNT;
        IF given >= wanted THEN
            RETURN;
        END IF;
    END IF;
    -- Rows that the index gave come once more: what is fused takes the best row of each text.
    RETURN QUERY EXECUTE format($q$
        WITH texts AS MATERIALIZED (SELECT DISTINCT c.text_hash FROM ingest.chunks c WHERE %3$s)
        SELECT e.text_hash, %1$s FROM texts JOIN ingest.embeddings e USING (text_hash) WHERE e.model_id = %2$s
        ORDER BY 2, 1 LIMIT $2
    $q$, vector, model, ingest.chunk_condition(model, scope)) USING embedding, wanted;
END $$;

-- Both arms, fused by reciprocal rank: weight / (60 + rank) from each (Cormack, Clarke, Buettcher, SIGIR 2009). A rank
-- among the words weighs 1.5, the least weight with which both together are better than either on XQuAD's English
-- questions (docs/search.md). Without an embedding only words are asked, without words only vectors.
CREATE FUNCTION hybrid_texts(
    query text, embedding halfvec, model integer, scope jsonb, wanted integer,
    vector_weight double precision DEFAULT 1, lexical_weight double precision DEFAULT 1.5)
RETURNS TABLE (text_hash bytea, score double precision, vector_score double precision, lexical_score double precision)
LANGUAGE sql STABLE AS $$
    WITH near AS (
        SELECT n.text_hash, min(n.distance) AS distance, row_number() OVER (ORDER BY min(n.distance), n.text_hash) AS rank
        FROM ingest.nearest_texts(embedding, model, scope, greatest(wanted, least(1000, greatest(100, 5 * wanted)))) n
        WHERE embedding IS NOT NULL GROUP BY n.text_hash
    ), worded AS (
        SELECT l.text_hash, l.score, row_number() OVER (ORDER BY l.score DESC, l.text_hash) AS rank
        FROM ingest.lexical_texts(query, model, scope, 1000, greatest(wanted, least(1000, greatest(100, 5 * wanted)))) l
    )
    SELECT text_hash,
           coalesce(vector_weight / (60 + near.rank), 0) + coalesce(lexical_weight / (60 + worded.rank), 0) AS score,
           1 - near.distance, worded.score
    FROM near FULL JOIN worded USING (text_hash)
    ORDER BY 2 DESC, near.distance, text_hash LIMIT wanted
$$;

-- Every place where a text stands that the scope lets in, in the order of files.
CREATE FUNCTION text_places(texts bytea[], model integer, scope jsonb)
RETURNS TABLE (text_hash bytea, file_id bigint, generation_id bigint, ordinal integer) LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY EXECUTE format($q$
        SELECT c.text_hash, f.file_id, c.generation_id, c.ordinal
        FROM ingest.chunks c JOIN ingest.files f USING (generation_id)
        JOIN ingest.generation_models m ON m.generation_id = c.generation_id AND m.model_id = %s
        WHERE c.text_hash = ANY($1) AND %s AND %s
        ORDER BY f.source, f.path, c.ordinal
    $q$, model, ingest.file_condition(scope), ingest.passage_condition(scope)) USING texts;
END $$;

-- Replaced where a first command left it before a restore. As the views do, it answers with the rights of its owner: who may execute it needs no right on the tables.
CREATE OR REPLACE FUNCTION public.search_chunks(
    query text, embedding halfvec DEFAULT NULL, top integer DEFAULT 10, model text DEFAULT NULL,
    source text DEFAULT NULL, path text DEFAULT NULL, media_type text DEFAULT NULL,
    page_from integer DEFAULT NULL, page_to integer DEFAULT NULL, section text DEFAULT NULL,
    since timestamptz DEFAULT NULL, until timestamptz DEFAULT NULL, batch text DEFAULT NULL, entity text DEFAULT NULL)
RETURNS TABLE (
    score double precision, source text, path text, page_from integer, page_to integer, page_label text,
    section text, heading text, text text, ordinal integer, char_from bigint, char_to bigint,
    vector_score double precision, lexical_score double precision, places bigint, file_id bigint)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    WITH asked AS (
        SELECT m.model_id::integer AS model_id, jsonb_strip_nulls(jsonb_build_object(
            'source', source, 'path', path, 'media_type', media_type, 'page_from', page_from, 'page_to', page_to,
            'section', section, 'since', since, 'until', until, 'batch', batch, 'entity', entity)) AS scope
        FROM ingest.models m WHERE model IS NULL OR m.name = model
        -- Of several the one under which readers see most files.
        ORDER BY (SELECT count(*) FROM ingest.files f WHERE f.model_id = m.model_id) DESC, m.model_id DESC LIMIT 1
    ), texts AS MATERIALIZED (
        SELECT h.* FROM asked, ingest.hybrid_texts(query, embedding, asked.model_id, asked.scope, top) h
    ), placed AS (
        SELECT p.*, count(*) OVER (PARTITION BY p.text_hash) AS places,
               row_number() OVER (PARTITION BY p.text_hash ORDER BY f.source, f.path, p.ordinal) AS place
        FROM asked, ingest.text_places((SELECT array_agg(t.text_hash) FROM texts t), asked.model_id, asked.scope) p
        JOIN ingest.files f USING (file_id)
    )
    SELECT t.score, f.source, f.path, c.page_from, c.page_to, c.page_label, s.path, c.heading, c.text, c.ordinal,
           c.char_from, c.char_to, t.vector_score, t.lexical_score, p.places, f.file_id
    FROM texts t JOIN placed p ON p.text_hash = t.text_hash AND p.place = 1
    JOIN ingest.chunks c ON c.generation_id = p.generation_id AND c.ordinal = p.ordinal
    JOIN ingest.files f ON f.file_id = p.file_id
    LEFT JOIN ingest.sections s ON s.generation_id = c.generation_id AND s.ordinal = c.section
    ORDER BY t.score DESC, t.vector_score DESC NULLS LAST, t.text_hash
$$;
REVOKE ALL ON FUNCTION public.search_chunks FROM PUBLIC;
COMMENT ON FUNCTION public.search_chunks IS
    'The passages that answer a query, by its words and its embedding, best first; docs/search.md.';

-- What a search covers, counted exactly: each count reads an index that holds little but what it counts.
CREATE INDEX files_not_shown ON files (status) WHERE generation_id IS NULL;
CREATE INDEX files_outdated ON files (status) WHERE generation_id IS NOT NULL AND status <> 'indexed';
CREATE INDEX files_with_gaps ON files (file_id) WHERE gaps <> '[]' AND generation_id IS NOT NULL;
CREATE INDEX files_failed_names ON files USING gin (ingest.text_terms('simple', path)) WHERE status = 'failed';
CREATE INDEX unembedded_texts_deferred ON unembedded_texts (model_id) WHERE state = 'deferred';

CREATE FUNCTION search_coverage(query text, model integer, scope jsonb)
RETURNS TABLE (files bigint, searched bigint, waiting bigint, failed bigint, outdated bigint, unreadable_pages bigint,
               files_with_gaps bigint, failed_matching bigint, failed_names text[]) LANGUAGE plpgsql STABLE AS $$
DECLARE
    condition text := ingest.file_condition(scope);
    shown bigint;
    unanswerable bigint := 0;
    language text := ingest.text_language(query);
    words tsquery;
BEGIN
    EXECUTE 'SELECT count(*) FROM ingest.files f
             WHERE f.status IN (''synced'', ''processing'', ''processed'', ''indexed'', ''failed'') AND ' || condition
    INTO files;
    EXECUTE 'SELECT count(*) FILTER (WHERE f.status <> ''failed''), count(*) FILTER (WHERE f.status = ''failed'')
             FROM ingest.files f WHERE f.generation_id IS NULL AND f.status <> ''deleted'' AND ' || condition
    INTO waiting, failed;
    EXECUTE 'SELECT count(*) FROM ingest.files f
             WHERE f.generation_id IS NOT NULL AND f.status <> ''indexed'' AND f.status <> ''deleted'' AND ' || condition
    INTO outdated;
    -- What readers see of a file every chunk of which is done or rejected, its model can answer for.
    IF model IS NOT NULL OR EXISTS (SELECT FROM ingest.unembedded_texts u WHERE u.state = 'deferred') THEN
        EXECUTE 'SELECT count(*) FROM ingest.files f
                 WHERE f.generation_id IS NOT NULL AND f.status <> ''deleted'' AND NOT EXISTS (
                     SELECT FROM ingest.generation_models m WHERE m.generation_id = f.generation_id
                     AND m.model_id = coalesce($1, m.model_id)) AND ' || condition
        INTO unanswerable USING model;
    END IF;
    waiting := waiting + unanswerable;
    searched := files - waiting - failed;
    EXECUTE 'SELECT count(*), coalesce(sum((
                 SELECT sum((gap ->> ''page_to'')::bigint - (gap ->> ''page_from'')::bigint + 1)
                 FROM jsonb_array_elements(f.gaps) gap)), 0)::bigint
             FROM ingest.files f
             WHERE f.gaps <> ''[]'' AND f.generation_id IS NOT NULL AND f.status <> ''deleted'' AND ' || condition
    INTO files_with_gaps, unreadable_pages;
    SELECT string_agg(ingest.quoted_term(w), ' | ')::tsquery INTO words
    FROM (SELECT DISTINCT w FROM string_to_table(left(ingest.words_of(query), 2000), ' ') w LIMIT 32) w
    WHERE length(w) BETWEEN 2 AND 200 AND ingest.text_terms(language, w) <> '';
    failed_matching := 0;
    failed_names := '{}';
    IF words IS NOT NULL THEN
        EXECUTE 'SELECT count(*), coalesce((array_agg(f.path ORDER BY f.path))[1:3], ''{}'') FROM ingest.files f
                 WHERE f.status = ''failed'' AND ingest.text_terms(''simple'', f.path) @@ $1 AND ' || condition
        INTO failed_matching, failed_names USING words;
    END IF;
    RETURN NEXT;
END $$;
