-- What is asked of the store. psr computed every figure; here they are only arranged.

CREATE VIEW scores AS
    SELECT j.profile, j.completion,
           max(100 * j.value / j.scale) FILTER (j.dimension = b.asked) AS trait,
           max(100 * j.value / j.scale) FILTER (j.dimension = b.sense) AS coherence,
           count(*) FILTER (j.value IS NULL) AS unscored
    FROM stg_judgements j
    JOIN stg_completions c ON c.profile = j.profile AND c.id = j.completion
    JOIN stg_pairs p ON p.profile = c.profile AND p.stage = c.stage AND p.id = c.pair
    LEFT JOIN stg_benchmarks b ON b.profile = p.profile AND b.benchmark = split_part(p.attribute, '/', 1)
    GROUP BY j.profile, j.completion;
COMMENT ON VIEW scores IS 'Ratings by answer: what was asked for and sense, 0 to 100.';

CREATE VIEW completions AS
    SELECT c.profile, c.stage, c.id, p.attribute, p.question, p.instruction, p.question_set,
           coalesce(m.method || if(c.method LIKE '%+instructed', '+prompt', ''), c.method) AS method, m.id AS module,
           c.alpha, c.seed, d.seed AS fit_seed, s.trait, s.coherence,
           len(c.token_ids) AS tokens, c.finished, c.text, c.thinking, c.pair, c.model, c.sampling
    FROM stg_completions c
    LEFT JOIN stg_pairs p ON p.profile = c.profile AND p.stage = c.stage AND p.id = c.pair
    LEFT JOIN stg_modules m ON m.profile = c.profile AND m.id = split_part(c.method, '+', 1)
    LEFT JOIN stg_draws d
        ON d.profile = c.profile AND d.stage = c.stage AND d.attribute = p.attribute AND d.sampled = c.seed
    LEFT JOIN scores s ON s.profile = c.profile AND s.completion = c.id
    ORDER BY c.profile, c.stage, p.attribute, method, c.alpha, c.id;
COMMENT ON VIEW completions IS 'Every answer, with its question, what made it and how it was rated.';

CREATE VIEW judgements AS
    SELECT j.profile, j.stage, j.id, j.completion, c.attribute, c.method, c.alpha, j.judge, j.rubric, j.dimension,
           j.value, j.scale, j.raw, j.error
    FROM stg_judgements j LEFT JOIN completions c ON c.profile = j.profile AND c.id = j.completion
    ORDER BY j.profile, j.stage, c.attribute, c.method, c.alpha, j.completion, j.dimension;
COMMENT ON VIEW judgements IS 'Every rating of every dimension; a failed one has no value and says why.';

CREATE VIEW calibrations AS
    SELECT profile, attribute, judge, rubric, auc, agreement, spoilt, hardest, marks
    FROM stg_calibrations ORDER BY profile, attribute;
COMMENT ON VIEW calibrations IS 'How well a judge by likelihood tells answers apart, and the marks that it judges by.';

CREATE VIEW judge_answers AS
    SELECT judge, rubric, dimension, model, value, reply, error, tokens_in, tokens_out, asked_at, text, key
    FROM stg_judge_answers ORDER BY judge, rubric, dimension, asked_at, key;
COMMENT ON VIEW judge_answers IS 'Every answer of a judge that is a language model, whichever profile asked; none is asked for twice.';

CREATE VIEW judge_usage AS
    SELECT judge, rubric, model, count(*) AS calls, count(*) FILTER (value IS NULL) AS without_value,
           sum(tokens_in) AS tokens_in, sum(tokens_out) AS tokens_out, min(asked_at) AS first_asked, max(asked_at) AS last_asked
    FROM stg_judge_answers GROUP BY judge, rubric, model ORDER BY judge, rubric, model;
COMMENT ON VIEW judge_usage IS 'What such judges cost: answers and tokens.';

CREATE VIEW figures AS
    SELECT profile, benchmark, model, attribute, name AS method, scope, form, objective, span, layer, figure,
           value, low, high, alpha, coherence, reached, n, n_unscored, seeds, method AS slug, module, favoured, position
    FROM stg_figures ORDER BY profile, benchmark, model, attribute, position, figure;
COMMENT ON VIEW figures IS 'Every figure with its 95 % interval, a row each: a method on an attribute, over seeds.';

CREATE VIEW figures_seeds AS
    SELECT profile, benchmark, model, attribute, name AS method, scope, form, objective, span, layer, figure,
           value, low, high, alpha, coherence, reached, n, n_unscored, seed, method AS slug, module, favoured, position
    FROM stg_figures_seeds ORDER BY profile, benchmark, model, attribute, position, figure, seed;
COMMENT ON VIEW figures_seeds IS 'The rows of figures seed by seed; module and prompt of one seed answered with the same random numbers.';

CREATE VIEW means AS
    SELECT f.profile, f.benchmark, f.model, f.name AS method, f.method AS slug, f.figure, avg(f.value) AS value,
           count(*) AS attributes, min(f.position) AS position
    FROM stg_figures f
    JOIN (SELECT profile, benchmark, model, count(DISTINCT attribute) AS attributes FROM stg_figures GROUP BY ALL) every
        USING (profile, benchmark, model)
    GROUP BY f.profile, f.benchmark, f.model, f.name, f.method, f.figure, every.attributes
    HAVING count(f.value) = every.attributes
    ORDER BY f.profile, f.benchmark, f.model, position, f.figure;
COMMENT ON VIEW means IS 'Means over a benchmark''s attributes, of the figures that a method has on every one of them.';

CREATE VIEW measures AS
    SELECT profile, section, benchmark, position, figure, label, mean, digits, interval_digits, mean_digits, title, about
    FROM stg_measures ORDER BY profile, section, position;
COMMENT ON VIEW measures IS 'What a benchmark shows: its figures in order, what they are called, their decimals.';

CREATE VIEW published AS
    SELECT profile, benchmark, source, position, heading, method, value, digits
    FROM stg_published ORDER BY profile, benchmark, method, position;
COMMENT ON VIEW published IS 'What others measured, a row a column of their table.';

-- A number as text, – where there is none; a figure with its interval: 93.0 (90–96), 1.0 (-2 to 3).
CREATE MACRO shown(x, digits) AS coalesce(format('{:.' || digits || 'f}', x), '–');
CREATE MACRO interval_shown(x, low, high, digits, interval_digits) AS
    shown(x, digits) || coalesce(' (' || shown(low, interval_digits) || if(low < 0, ' to ', '–') || shown(high, interval_digits) || ')', '');

CREATE VIEW cells AS
    SELECT f.profile, f.benchmark, 'figure' AS block, f.attribute AS heading,
           dense_rank() OVER (PARTITION BY f.profile, f.benchmark ORDER BY f.attribute) AS column_position,
           f.position, f.name || if(f.favoured, ' †', '') AS method, f.method AS slug,
           if(f.value IS NULL, '–', interval_shown(f.value, f.low, f.high, m.digits, m.interval_digits)) AS text,
           if(f.value IS NULL, '', concat_ws(', ',
               CASE WHEN f.reached THEN b.sense || ' ' || shown(f.coherence, m.digits) ELSE 'not reached' END,
               'α ' || format('{:g}', round(f.alpha, 2)))) AS detail
    FROM stg_figures f
    JOIN stg_measures m ON m.profile = f.profile AND m.benchmark = f.benchmark AND m.figure = f.figure AND m.position = 0
    LEFT JOIN stg_benchmarks b ON b.profile = f.profile AND b.benchmark = f.benchmark
    UNION ALL
    SELECT f.profile, f.benchmark, 'mean', m.mean, m.position, f.position, f.method, f.slug, shown(f.value, m.mean_digits), ''
    FROM means f JOIN stg_measures m ON m.profile = f.profile AND m.benchmark = f.benchmark AND m.figure = f.figure
    UNION ALL
    SELECT p.profile, p.benchmark, 'published', p.heading, p.position, NULL, p.method, p.method, shown(p.value, p.digits), p.source
    FROM stg_published p
    ORDER BY ALL;
COMMENT ON VIEW cells IS 'The tables of figures as text, a row a cell: what terminal, README and report show.';

CREATE VIEW benchmarks AS
    SELECT profile, benchmark, origin, asked, sense, strength, regulariser, normalise
    FROM stg_benchmarks ORDER BY profile, benchmark;
COMMENT ON VIEW benchmarks IS 'The benchmarks of a profile: what is rated, how strengths are chosen, how it is fitted.';

-- The figures of one benchmark side by side, a row a method (and seed); source: the long table over seeds, or seed by seed.
CREATE MACRO taken(name, x, figure) AS max(x) FILTER (figure = name);

CREATE MACRO side_by_side_persona(source) AS TABLE
    SELECT profile, benchmark, model, attribute, name AS method, scope, form, objective, span, layer,
           taken('ta_cp', value, figure) AS ta_cp, taken('ta_cp', low, figure) AS ta_cp_low,
           taken('ta_cp', high, figure) AS ta_cp_high, taken('ta_cp', coherence, figure) AS coherence_cp,
           taken('ta_cp', alpha, figure) AS alpha_cp, taken('ta_cp', reached, figure) AS reached_cp,
           taken('ta_cp2', value, figure) AS ta_cp2, taken('ta_cp2', low, figure) AS ta_cp2_low,
           taken('ta_cp2', high, figure) AS ta_cp2_high, taken('ta_cp2', coherence, figure) AS coherence_cp2,
           taken('ta_cp2', alpha, figure) AS alpha_cp2, taken('ta_cp2', reached, figure) AS reached_cp2,
           taken('ta_c80', value, figure) AS ta_c80, taken('ta_c80', low, figure) AS ta_c80_low,
           taken('ta_c80', high, figure) AS ta_c80_high, taken('ta_c80', coherence, figure) AS coherence_c80,
           taken('ta_c80', alpha, figure) AS alpha_c80, taken('ta_c80', reached, figure) AS reached_c80,
           taken('words', value, figure) AS words, taken('words', low, figure) AS words_low,
           taken('words', high, figure) AS words_high,
           taken('words_c80', value, figure) AS words_c80, taken('words_c80', low, figure) AS words_c80_low,
           taken('words_c80', high, figure) AS words_c80_high,
           taken('ta_cp', n, figure) AS n, taken('ta_cp', n_unscored, figure) AS n_unscored,
           method AS slug, module, favoured, COLUMNS('^seeds?$')
    FROM query_table(source) WHERE benchmark = 'persona' GROUP BY ALL;

CREATE MACRO side_by_side_ifeval(source) AS TABLE
    SELECT profile, benchmark, model, attribute, name AS method, scope, form, objective, span, layer,
           taken('strict', alpha, figure) AS alpha, taken('strict', value, figure) AS strict,
           taken('strict', low, figure) AS strict_low, taken('strict', high, figure) AS strict_high,
           taken('loose', value, figure) AS loose, taken('loose', low, figure) AS loose_low,
           taken('loose', high, figure) AS loose_high, taken('coherence', value, figure) AS coherence,
           taken('coherence', low, figure) AS coherence_low, taken('coherence', high, figure) AS coherence_high,
           taken('effect', value, figure) AS effect, taken('effect', low, figure) AS effect_low,
           taken('effect', high, figure) AS effect_high,
           taken('strict', n, figure) AS n, taken('strict', n_unscored, figure) AS n_unscored,
           method AS slug, module, favoured, COLUMNS('^seeds?$')
    FROM query_table(source) WHERE benchmark = 'ifeval' GROUP BY ALL;

CREATE MACRO side_by_side_axbench(source) AS TABLE
    SELECT profile, benchmark, model, attribute, name AS method, scope, form, objective, span, layer,
           taken('overall', alpha, figure) AS alpha, taken('overall', value, figure) AS overall,
           taken('overall', low, figure) AS overall_low, taken('overall', high, figure) AS overall_high,
           taken('concept', value, figure) AS concept, taken('instruction', value, figure) AS instruction,
           taken('fluency', value, figure) AS fluency,
           taken('overall', n, figure) AS n, taken('overall', n_unscored, figure) AS n_unscored,
           method AS slug, module, favoured, COLUMNS('^seeds?$')
    FROM query_table(source) WHERE benchmark = 'axbench' GROUP BY ALL;

CREATE VIEW headline AS
    FROM side_by_side_persona('stg_figures') ORDER BY profile, model, attribute, scope IS NOT NULL, slug;
COMMENT ON VIEW headline IS 'The table of the paper: trait alignment of persona at matched coherence, figures side by side.';

CREATE VIEW headline_seeds AS
    FROM side_by_side_persona('stg_figures_seeds') ORDER BY profile, model, attribute, scope IS NOT NULL, slug, seed;
COMMENT ON VIEW headline_seeds IS 'The rows of headline seed by seed.';

CREATE VIEW ifeval AS
    FROM side_by_side_ifeval('stg_figures') ORDER BY profile, model, attribute, scope IS NOT NULL, slug;
COMMENT ON VIEW ifeval IS 'Format instructions at α = 1: strict and loose accuracy and coherence, side by side.';

CREATE VIEW ifeval_seeds AS
    FROM side_by_side_ifeval('stg_figures_seeds') ORDER BY profile, model, attribute, scope IS NOT NULL, slug, seed;
COMMENT ON VIEW ifeval_seeds IS 'The rows of ifeval seed by seed.';

CREATE VIEW axbench AS
    FROM side_by_side_axbench('stg_figures') ORDER BY profile, model, attribute, scope IS NOT NULL, slug;
COMMENT ON VIEW axbench IS 'Concepts at the best factor: the harmonic mean and the three ratings, side by side.';

CREATE VIEW axbench_seeds AS
    FROM side_by_side_axbench('stg_figures_seeds') ORDER BY profile, model, attribute, scope IS NOT NULL, slug, seed;
COMMENT ON VIEW axbench_seeds IS 'The rows of axbench seed by seed.';

-- One factor for all concepts, as SteerScope has it: the one with the best mean on the search questions, where each was tried.
CREATE VIEW one_factor AS
    WITH answers AS (  -- the harmonic mean of an answer's ratings, 0 to 2; 0 where one is 0, unknown where one is
        SELECT c.profile, b.benchmark, c.attribute, c.method AS slug, c.alpha, c.id,
               CASE WHEN count(j.value) < count(*) THEN NULL WHEN min(j.value) = 0 THEN 0
                    ELSE 2 * count(*) / sum(j.scale / nullif(j.value, 0)) END AS overall
        FROM completions c
        JOIN stg_judgements j ON j.profile = c.profile AND j.stage = c.stage AND j.completion = c.id
        JOIN stg_benchmarks b ON b.profile = c.profile AND b.benchmark = split_part(c.attribute, '/', 1)
        WHERE c.stage = 'search' AND c.module IS NOT NULL AND b.strength = 'best factor'
        GROUP BY ALL
    ), attributes AS (
        SELECT profile, benchmark, attribute, slug, alpha, avg(overall) AS overall FROM answers GROUP BY ALL
    ), factors AS (
        SELECT profile, benchmark, slug, alpha, avg(overall) AS overall, count(overall) AS attributes FROM attributes GROUP BY ALL
    ), best AS (
        SELECT profile, benchmark, slug, max_by(alpha, overall) AS alpha, max(overall) AS overall,
               max_by(attributes, overall) AS attributes
        FROM factors GROUP BY ALL
    )
    SELECT m.profile, m.benchmark, m.method, m.slug, best.alpha, coalesce(best.overall, m.value) AS overall,
           coalesce(best.overall, m.value) - plain.value AS gain, coalesce(best.attributes, m.attributes) AS attributes
    FROM means m
    JOIN means plain ON plain.profile = m.profile AND plain.benchmark = m.benchmark AND plain.figure = m.figure AND plain.slug = 'plain'
    LEFT JOIN best ON best.profile = m.profile AND best.benchmark = m.benchmark AND best.slug = m.slug
    WHERE m.figure = 'overall' AND (best.slug IS NOT NULL OR m.slug IN ('plain', 'prompt'))
    ORDER BY m.profile, m.benchmark, overall DESC, m.slug;
COMMENT ON VIEW one_factor IS 'Concepts with one factor a method for all of them, and the gain over the plain model.';

CREATE VIEW modules AS
    SELECT profile, id, attribute, method, scope, form, objective, span, layer, seed, triplets, folder, model, fits_likelihoods
    FROM stg_modules ORDER BY profile, attribute, method, id;
COMMENT ON VIEW modules IS 'Fitted modules, and what they were fitted on.';

CREATE VIEW curves AS
    SELECT c.profile, c.module, m.attribute, m.method, c.epoch, c.loss, c.objective, c.regulariser, c.dead
    FROM stg_curves c LEFT JOIN stg_modules m ON m.profile = c.profile AND m.id = c.module
    ORDER BY c.profile, m.attribute, m.method, c.module, c.epoch;
COMMENT ON VIEW curves IS 'Training curves, epoch by epoch.';

CREATE VIEW trait_coherence AS
    SELECT profile, attribute, method, module, seed, alpha, trait, coherence, n
    FROM stg_curve ORDER BY profile, attribute, method, seed, alpha NULLS FIRST;
COMMENT ON VIEW trait_coherence IS 'Trait against coherence along α, on the search questions.';

CREATE VIEW alphas AS
    SELECT a.profile, m.attribute, m.method, a.module, a.seed, a.point, a.alpha, a.share, a.chosen
    FROM stg_candidates a LEFT JOIN stg_modules m ON m.profile = a.profile AND m.id = a.module
    ORDER BY a.profile, m.attribute, m.method, a.module, a.seed, a.point, a.alpha;
COMMENT ON VIEW alphas IS 'The strengths that the search chose, and those that a resample of its questions might have chosen.';

CREATE VIEW token_strengths AS
    SELECT s.profile, s.completion, c.attribute, c.method, c.module, c.alpha, s.layer, s.position, s.token, s.strength
    FROM stg_strengths s LEFT JOIN completions c ON c.profile = s.profile AND c.id = s.completion
    ORDER BY s.profile, c.attribute, c.method, s.completion, s.layer, s.position;
COMMENT ON VIEW token_strengths IS 'λ token by token, for the answers whose strengths were kept.';

CREATE VIEW triplets AS
    SELECT t.profile, t.id, p.attribute, t.pair, t.completion, t.trait, t.coherence
    FROM stg_triplets t LEFT JOIN stg_pairs p ON p.profile = t.profile AND p.stage = 'complete' AND p.id = t.pair
    ORDER BY t.profile, p.attribute, t.id;
COMMENT ON VIEW triplets IS 'Answers that modules were fitted on, with their soft labels.';

CREATE VIEW dropped AS
    SELECT d.profile, c.attribute, d.completion, d.reason, c.trait, c.coherence
    FROM stg_dropped d LEFT JOIN completions c ON c.profile = d.profile AND c.id = d.completion
    ORDER BY d.profile, c.attribute, d.completion;
COMMENT ON VIEW dropped IS 'Judged answers that were not kept for fitting, and why.';

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
COMMENT ON VIEW lineage IS 'Who came from whom: a row a child and parent, up to the pair that everything starts from.';

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
        'figure': coalesce(format('{:.4g} ({}) at alpha {:.3g}', f.value, f.label, f.alpha), '–')}
    FROM stg_modules m LEFT JOIN (
        SELECT f.profile, f.module, f.method, s.label, avg(f.value) AS value, avg(f.alpha) AS alpha
        FROM stg_figures_seeds f
        JOIN stg_measures s ON s.profile = f.profile AND s.benchmark = f.benchmark AND s.figure = f.figure AND s.position = 0
        GROUP BY ALL
    ) f ON f.profile = m.profile AND f.module = m.id AND f.method = m.method;
COMMENT ON VIEW items IS 'Everything that has an id, with what is worth knowing of it.';

CREATE VIEW faithfulness AS
    SELECT f.profile, f.attribute, coalesce(m.method, f.method) AS method, m.id AS module, f.seed, f.alpha, f.chosen, f.layer,
           f.relative_rmse, f.low, f.high, f.above_floor, f.above_floor_low, f.above_floor_high, f.n,
           list_contains(CASE WHEN m.scope = 'S' THEN [m.layer] END, f.layer) AS own_layer
    FROM stg_faithfulness f LEFT JOIN stg_modules m ON m.profile = f.profile AND m.id = f.method
    ORDER BY f.profile, f.attribute, method, module, f.seed, f.alpha, f.layer;
COMMENT ON VIEW faithfulness IS 'Relative RMSE per layer between what a module adds up to and what the prompt does, on unseen questions.';

CREATE VIEW deviations AS
    SELECT d.profile, p.attribute, coalesce(m.method, d.method) AS method, m.id AS module, d.seed, d.alpha, d.layer, d.pair,
           p.question, d.squared_error, d.energy, d.tokens
    FROM stg_deviations d
    LEFT JOIN stg_pairs p ON p.profile = d.profile AND p.stage = 'faithfulness' AND p.id = d.pair
    LEFT JOIN stg_modules m ON m.profile = d.profile AND m.id = d.method
    ORDER BY d.profile, p.attribute, method, module, d.seed, d.alpha, d.layer, d.pair;
COMMENT ON VIEW deviations IS 'The sums per question behind it: relative RMSE = sqrt(sum(squared_error) / sum(energy)) over any questions.';

CREATE VIEW delta AS
    SELECT profile, attribute, seed, kind, layer, r, energy_share, low, high, n
    FROM stg_delta ORDER BY profile, attribute, seed, kind, layer, r;
COMMENT ON VIEW delta IS 'How many directions the prompt''s effect has: the share of its energy along the first r.';

CREATE VIEW delta_strengths AS
    SELECT profile, attribute, seed, kind, layer, p01, p05, p25, p50, p75, p95, p99, spread, spread_low, spread_high, tokens, n
    FROM stg_delta_strengths ORDER BY profile, attribute, seed, kind, layer;
COMMENT ON VIEW delta_strengths IS 'Quantiles over tokens of the size of the prompt''s effect.';

CREATE VIEW delta_tokens AS
    SELECT d.profile, d.completion, p.attribute, p.question, d.seed, d.kind, d.layer, d.position, d.token, d.strength
    FROM stg_delta_tokens d
    LEFT JOIN stg_completions c ON c.profile = d.profile AND c.id = d.completion
    LEFT JOIN stg_pairs p ON p.profile = d.profile AND p.stage = c.stage AND p.id = c.pair
    ORDER BY d.profile, p.attribute, d.completion, d.seed, d.kind, d.layer, d.position;
COMMENT ON VIEW delta_tokens IS 'The size of the prompt''s effect token by token, for the answers that were kept.';

CREATE VIEW readability AS
    SELECT profile, attribute, seed, kind, reads, reader, layer, r_squared, low, high, n
    FROM stg_readability ORDER BY profile, attribute, seed, kind, reads, reader, layer;
COMMENT ON VIEW readability IS 'How well the strength of the prompt''s effect can be read off the activation.';

CREATE VIEW bench AS
    SELECT profile, device, name, measured, against, goal, median, low, high, n, verdict, note, cores, threads, torch, dtype, model
    FROM stg_bench ORDER BY profile, device, name;
COMMENT ON VIEW bench IS 'Speed, as python -m flows.bench measured it: ratios, and whether they meet their goals.';

CREATE VIEW claims AS
    SELECT profile, claim, says, part, compared, published, value, low, high, cp2, cp2_low, cp2_high, margin, unit, verdict, claim_verdict,
           seeds, attributes, which, note, why, sql
    FROM stg_claims ORDER BY profile, claim, part;
COMMENT ON VIEW claims IS 'The paper''s claims, a row a part: the difference, its interval, its verdict, and the question that gives it.';

CREATE VIEW adaptation AS
    SELECT * EXCLUDE (name, method), name AS method, method AS slug
    FROM stg_adaptation ORDER BY profile, attribute, parameters, slug;
COMMENT ON VIEW adaptation IS 'Prompt, steering, LoRA and full fine-tuning on the same triplets, as python -m flows.adapt compared them.';

CREATE VIEW ablation AS
    SELECT profile, benchmark, attribute, variant, rank, objective, span, layer, warm, value, low, high, coherence, reached,
           prompt, prompt_coherence, ahead, ahead_low, ahead_high, ahead_search, alpha, numbers, dead, triplets, negatives, keep,
           value_c80, value_c80_low, value_c80_high, alpha_c80, coherence_c80, alpha_equal, equal, value_equal, coherence_equal,
           ahead_equal, ahead_equal_low, ahead_equal_high, drift, drift_low, drift_high, prompt_drift, prompt_drift_low,
           prompt_drift_high, drift_more, drift_more_low, drift_more_high, drift_answers, n, n_unscored, seeds, name AS method, model
    FROM stg_ablation ORDER BY profile, benchmark, attribute, ahead_search DESC, variant;
COMMENT ON VIEW ablation IS 'Variants of PSR against the prompt, effect and drift, as python -m flows.ablate measured them.';

CREATE VIEW side_effects AS
    SELECT profile, attribute, name AS method, alpha, reached, measure, turn, value, low, high, difference, difference_low,
           difference_high, n, n_unscored, seeds, note, method AS slug, model
    FROM stg_side_effects ORDER BY profile, attribute, slug, measure, turn;
COMMENT ON VIEW side_effects IS 'What the prompt and modules of equal effect change besides, a row a measure, as python -m flows.side_effects measured it.';

CREATE VIEW verdicts AS
    SELECT v.profile, v.judge, v.rubric, v.completion, c.attribute, c.method, c.alpha, c.question, c.text, v.dimension, v.value,
           v.scale, v.raw, v.error, v.answer
    FROM stg_verdicts v LEFT JOIN completions c ON c.profile = v.profile AND c.id = v.completion
    ORDER BY v.profile, v.judge, c.attribute, c.method, c.alpha, v.completion, v.dimension;
COMMENT ON VIEW verdicts IS 'Ratings by judges whom no figure comes from, and by people, as python -m flows.agreement asked them.';

CREATE VIEW agreement AS
    SELECT profile, attribute, dimension, judge, other, n, missing, missing_other, mean, mean_other, equal, equal_low, equal_high,
           kappa, kappa_low, kappa_high, auc, auc_low, auc_high, spearman, spearman_low, spearman_high, distance, distance_low,
           distance_high
    FROM stg_agreement ORDER BY profile, attribute, dimension, judge, other;
COMMENT ON VIEW agreement IS 'How far two judges agree on the same answers, a row for each of both orders.';

CREATE VIEW runs AS
    SELECT r.profile, r.id, r.who, r.began, r.ended, epoch(r.ended - r.began)::BIGINT AS seconds, r.outcome, r.commit, r.dirty,
           r.changed, r.host, list(s.step ORDER BY s.step) FILTER (s.outcome = 'ran') AS ran, r.packages, r.settings
    FROM stg_runs r LEFT JOIN stg_runs_steps s ON s.profile = r.profile AND s.run = r.id
    GROUP BY ALL ORDER BY r.began, r.profile, r.id;
COMMENT ON VIEW runs IS 'Every run that computed something: who ran what, when, on which commit and machine, with which parameters.';

CREATE VIEW runs_steps AS
    SELECT s.profile, s.run, s.step, s.outcome, s.seconds, s.made, r.who, r.began, s.outputs
    FROM stg_runs_steps s JOIN stg_runs r ON r.profile = s.profile AND r.id = s.run
    ORDER BY r.began, s.profile, s.run, s.step;
COMMENT ON VIEW runs_steps IS 'The steps of every run: how each ended, how long it took, and whether its outputs are those that lie there.';

CREATE VIEW made_by AS
    SELECT s.profile, s.step, s.run, r.who, r.began, r.ended, r.commit, r.dirty, r.host
    FROM stg_runs_steps s JOIN stg_runs r ON r.profile = s.profile AND r.id = s.run
    WHERE s.made ORDER BY s.profile, r.began, s.step;
COMMENT ON VIEW made_by IS 'The run that made the outputs of a step as they are now, a row a step; of steps whose run left a record.';

CREATE VIEW figures_made_by AS
    SELECT f.profile, f.benchmark, f.model, f.attribute, f.name AS method, f.figure, f.value, f.low, f.high,
           m.who, m.ended, m.commit, m.dirty, m.run, d.who AS fitted_by, d.run AS fitted_in, f.method AS slug, f.position
    FROM stg_figures f
    LEFT JOIN made_by m ON m.profile = f.profile AND m.step = 'results'
    LEFT JOIN made_by d ON d.profile = f.profile AND d.step = 'distill'
    ORDER BY f.profile, f.benchmark, f.model, f.attribute, f.position, f.figure;
COMMENT ON VIEW figures_made_by IS 'Every figure with the run that computed it and the run that fitted its modules; empty where it left no record.';
