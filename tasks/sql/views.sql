-- What is asked of the store. psr computed every figure; here they are only arranged.

-- Verdicts by completion in 0..100: `trait` is what the benchmark asks for, `coherence` whether the answer is one.
CREATE VIEW scores AS
    SELECT profile, completion,
           max(100 * value / scale) FILTER (dimension IN ('trait', 'accuracy', 'concept')) AS trait,
           max(100 * value / scale) FILTER (dimension IN ('coherence', 'fluency')) AS coherence,
           count(*) FILTER (value IS NULL) AS unscored
    FROM stg_judgements GROUP BY profile, completion;

-- Every answer. method: plain, instructed, a steering method, or one on top of the prompt (METHOD+prompt); module: the
-- one that steered; seed: of sampling; fit_seed: the repetition that the answer belongs to (of fitting data: none).
CREATE VIEW completions AS
    SELECT c.profile, c.stage, c.id, p.attribute, p.question, p.instruction, p.question_set,
           coalesce(m.method || if(c.method LIKE '%+instructed', '+prompt', ''), c.method) AS method, m.id AS module,
           c.alpha, c.seed, d.seed AS fit_seed, s.trait, s.coherence,
           len(c.token_ids) AS tokens, c.finished, c.text, c.pair, c.model, c.sampling
    FROM stg_completions c
    LEFT JOIN stg_pairs p ON p.profile = c.profile AND p.stage = c.stage AND p.id = c.pair
    LEFT JOIN stg_modules m ON m.profile = c.profile AND m.id = split_part(c.method, '+', 1)
    LEFT JOIN stg_draws d
        ON d.profile = c.profile AND d.stage = c.stage AND d.attribute = p.attribute AND d.sampled = c.seed
    LEFT JOIN scores s ON s.profile = c.profile AND s.completion = c.id
    ORDER BY c.profile, c.stage, p.attribute, method, c.alpha, c.id;

-- Every verdict; a failed one has value NULL and says why in `error`.
CREATE VIEW judgements AS
    SELECT j.profile, j.stage, j.id, j.completion, c.attribute, c.method, c.alpha, j.judge, j.rubric, j.dimension,
           j.value, j.scale, j.raw, j.error
    FROM stg_judgements j LEFT JOIN completions c ON c.profile = j.profile AND c.id = j.completion
    ORDER BY j.profile, j.stage, c.attribute, c.method, c.alpha, j.completion, j.dimension;

-- The table of the paper. method: as printed; ta: trait alignment; cp: at the prompt's coherence; c80: at coherence 80.
-- Means over `seeds` seeds; n counts question × seed.
CREATE VIEW headline AS
    SELECT profile, benchmark, model, attribute, name AS method, scope, form, objective, span, layer,
           ta_cp, ta_cp_low, ta_cp_high, coherence_cp, alpha_cp, reached_cp,
           ta_c80, ta_c80_low, ta_c80_high, coherence_c80, alpha_c80, reached_c80,
           n, n_unscored, method AS slug, module, seeds
    FROM stg_headline ORDER BY profile, benchmark, model, attribute, scope IS NOT NULL, slug;

-- The same seed by seed; module and prompt of one seed answered with the same random numbers.
CREATE VIEW headline_seeds AS
    SELECT * EXCLUDE (name, method, module), name AS method, method AS slug, module
    FROM stg_headline_seeds ORDER BY profile, benchmark, model, attribute, scope IS NOT NULL, slug, seed;

-- Format instructions at alpha 1: strict and loose accuracy and coherence, 0 to 100, with 95 % intervals; over `seeds` seeds.
CREATE VIEW ifeval AS
    SELECT * EXCLUDE (name, method, module), name AS method, method AS slug, module
    FROM stg_ifeval ORDER BY profile, model, attribute, scope IS NOT NULL, slug;

CREATE VIEW ifeval_seeds AS
    SELECT * EXCLUDE (name, method, module), name AS method, method AS slug, module
    FROM stg_ifeval_seeds ORDER BY profile, model, attribute, scope IS NOT NULL, slug, seed;

-- Concepts: `overall` is the harmonic mean of the three ratings, 0 to 2, at the factor `alpha` chosen on other questions.
CREATE VIEW axbench AS
    SELECT * EXCLUDE (name, method, module), name AS method, method AS slug, module
    FROM stg_axbench ORDER BY profile, model, attribute, scope IS NOT NULL, slug;

CREATE VIEW axbench_seeds AS
    SELECT * EXCLUDE (name, method, module), name AS method, method AS slug, module
    FROM stg_axbench_seeds ORDER BY profile, model, attribute, scope IS NOT NULL, slug, seed;

-- Fitted modules, and what they were fitted on.
CREATE VIEW modules AS
    SELECT profile, id, attribute, method, scope, form, objective, span, layer, seed, triplets, folder, model
    FROM stg_modules ORDER BY profile, attribute, method, id;

-- Training curves.
CREATE VIEW curves AS
    SELECT c.profile, c.module, m.attribute, m.method, c.epoch, c.loss, c.objective, c.regulariser, c.dead
    FROM stg_curves c LEFT JOIN stg_modules m ON m.profile = c.profile AND m.id = c.module
    ORDER BY c.profile, m.attribute, m.method, c.module, c.epoch;

-- Trait against coherence over alpha, on the search questions.
CREATE VIEW trait_coherence AS
    SELECT profile, attribute, method, module, seed, alpha, trait, coherence, n
    FROM stg_curve ORDER BY profile, attribute, method, seed, alpha NULLS FIRST;

-- The alphas that the search chose, and those that a bootstrap over questions might have chosen.
CREATE VIEW alphas AS
    SELECT a.profile, m.attribute, m.method, a.module, a.seed, a.point, a.alpha, a.share, a.chosen
    FROM stg_candidates a LEFT JOIN stg_modules m ON m.profile = a.profile AND m.id = a.module
    ORDER BY a.profile, m.attribute, m.method, a.module, a.seed, a.point, a.alpha;

-- λ token by token, for the completions whose strengths were kept.
CREATE VIEW token_strengths AS
    SELECT s.profile, s.completion, c.attribute, c.method, c.module, c.alpha, s.layer, s.position, s.token, s.strength
    FROM stg_strengths s LEFT JOIN completions c ON c.profile = s.profile AND c.id = s.completion
    ORDER BY s.profile, c.attribute, c.method, s.completion, s.layer, s.position;

CREATE VIEW triplets AS
    SELECT t.profile, t.id, p.attribute, t.pair, t.completion, t.trait, t.coherence
    FROM stg_triplets t LEFT JOIN stg_pairs p ON p.profile = t.profile AND p.stage = 'complete' AND p.id = t.pair
    ORDER BY t.profile, p.attribute, t.id;

-- Judged completions that were not kept for fitting, and why.
CREATE VIEW dropped AS
    SELECT d.profile, c.attribute, d.completion, d.reason, c.trait, c.coherence
    FROM stg_dropped d LEFT JOIN completions c ON c.profile = d.profile AND c.id = d.completion
    ORDER BY d.profile, c.attribute, d.completion;

-- Who came from whom: one row per child and parent, up to the pair that everything starts from.
CREATE VIEW lineage AS
    SELECT profile, 'judgement' AS kind, id, 'completion' AS parent_kind, completion AS parent FROM stg_judgements
    UNION ALL
    SELECT profile, 'completion', id, 'pair', pair FROM stg_completions
    UNION ALL
    SELECT c.profile, 'completion', c.id, 'module', m.id
    FROM stg_completions c JOIN stg_modules m ON m.profile = c.profile AND m.id = split_part(c.method, '+', 1)
    UNION ALL
    SELECT profile, 'triplet', id, 'completion', completion FROM stg_triplets
    UNION ALL
    SELECT t.profile, 'triplet', t.id, 'judgement', j.id
    FROM stg_triplets t JOIN stg_judgements j ON j.profile = t.profile AND j.completion = t.completion
    UNION ALL
    SELECT m.profile, 'module', m.id, 'triplet', t.id
    FROM stg_modules m JOIN triplets t ON t.profile = m.profile AND t.attribute = m.attribute
    ORDER BY ALL;

-- Everything that has an id, with what is worth knowing of it.
CREATE VIEW items AS
    SELECT DISTINCT profile, 'pair' AS kind, id, MAP {
        'attribute': attribute, 'question': question, 'instruction': instruction, 'set': question_set} AS facts
    FROM stg_pairs
    UNION ALL
    SELECT c.profile, 'completion', c.id, MAP {
        'stage': c.stage, 'method': coalesce(m.method || if(c.method LIKE '%+instructed', '+prompt', ''), c.method), 'alpha': c.alpha::VARCHAR, 'seed': c.seed::VARCHAR,
        'text': c.text, 'model': c.model, 'sampling': c.sampling}
    FROM stg_completions c LEFT JOIN stg_modules m ON m.profile = c.profile AND m.id = split_part(c.method, '+', 1)
    UNION ALL
    SELECT profile, 'judgement', id, MAP {
        'stage': stage, 'judge': judge, 'rubric': rubric, 'dimension': dimension,
        'value': coalesce(format('{:.4g} of {:g}', value, scale), 'none: ' || error)}
    FROM stg_judgements
    UNION ALL
    SELECT profile, 'triplet', id, MAP {'trait': trait::VARCHAR, 'coherence': coherence::VARCHAR} FROM stg_triplets
    UNION ALL
    SELECT m.profile, 'module', m.id, MAP {
        'attribute': m.attribute, 'method': m.method, 'layer': coalesce(m.layer::VARCHAR, 'all'),
        'seed': coalesce(m.seed::VARCHAR, 'none'), 'folder': m.folder, 'model': m.model,
        'trait at the prompt''s coherence': coalesce(format('{:.1f} at alpha {:.3g}', h.ta_cp, h.alpha_cp), '–')}
    FROM stg_modules m LEFT JOIN (
        SELECT profile, module, method, avg(ta_cp) AS ta_cp, avg(alpha_cp) AS alpha_cp FROM stg_headline_seeds GROUP BY ALL
    ) h ON h.profile = m.profile AND h.module = m.id AND h.method = m.method;
