-- One row per key of what the stages wrote, with the profile and the stage it came from.
-- The variables hold lists of files; each list ends in an empty typed file, so that an absent stage is an empty table.
CREATE TEMP MACRO staged(files) AS TABLE
    SELECT parse_path(filename)[-3] AS profile, parse_path(filename)[-2] AS stage, * EXCLUDE (filename)
    FROM read_parquet(getvariable(files), union_by_name = true, filename = true);

CREATE TABLE stg_pairs AS
    SELECT profile, stage, id, attribute, question, instruction, question_set, instruction_set
    FROM staged('pairs') ORDER BY profile, stage, id;
COMMENT ON TABLE stg_pairs IS 'Questions with their instructions.';

CREATE TABLE stg_completions AS
    SELECT profile, stage, id, pair, method, alpha, seed, model, sampling, token_ids, text, finished, thinking
    FROM staged('completions') ORDER BY profile, id, stage;
COMMENT ON TABLE stg_completions IS 'Answers.';

CREATE TABLE stg_judgements AS
    SELECT profile, stage, id, completion, judge, rubric, dimension, value, scale, raw, error
    FROM staged('judgements') ORDER BY profile, id, stage;
COMMENT ON TABLE stg_judgements IS 'Ratings.';

CREATE TABLE stg_calibrations AS
    SELECT profile, attribute, judge, rubric, auc, agreement, spoilt, hardest, marks
    FROM staged('calibrations') ORDER BY profile, attribute;
COMMENT ON TABLE stg_calibrations IS 'What judges by likelihood were calibrated to.';

CREATE TABLE stg_judge_answers AS
    SELECT key, judge, rubric, dimension, model, text, reply, value, error, tokens_in, tokens_out, asked_at
    FROM staged('judge_answers') ORDER BY key;
COMMENT ON TABLE stg_judge_answers IS 'What judges that are language models have answered, whichever profile asked.';

CREATE TABLE stg_triplets AS
    SELECT profile, id, pair, completion, trait, coherence FROM staged('triplets') ORDER BY profile, id;
COMMENT ON TABLE stg_triplets IS 'Answers that were kept to learn from.';

CREATE TABLE stg_dropped AS
    SELECT profile, completion, reason FROM staged('dropped') ORDER BY profile, completion;
COMMENT ON TABLE stg_dropped IS 'Answers that were not, and why.';

CREATE TABLE stg_modules AS
    SELECT profile, id, attribute, method, scope, form, objective, span, layer, seed, triplets, folder, model, fits_likelihoods
    FROM staged('modules') ORDER BY profile, attribute, method, id;
COMMENT ON TABLE stg_modules IS 'Fitted modules.';

CREATE TABLE stg_curves AS
    SELECT profile, module, epoch, loss, objective, regulariser, dead FROM staged('curves')
    ORDER BY profile, module, epoch;
COMMENT ON TABLE stg_curves IS 'Training curves.';

CREATE TABLE stg_candidates AS
    SELECT profile, module, seed, point, alpha, share, chosen FROM staged('candidates')
    ORDER BY profile, module, seed, point, alpha;
COMMENT ON TABLE stg_candidates IS 'Strengths that the search chose, or might have.';

CREATE TABLE stg_draws AS
    SELECT profile, stage, attribute, seed, sampled FROM staged('draws') ORDER BY ALL;
COMMENT ON TABLE stg_draws IS 'Which sampling seeds answer for a fit seed.';

CREATE TABLE stg_strengths AS
    SELECT profile, completion, layer, position, token, strength FROM staged('strengths')
    ORDER BY profile, completion, layer, position;
COMMENT ON TABLE stg_strengths IS 'λ token by token.';

CREATE TABLE stg_benchmarks AS
    SELECT profile, origin, benchmark, asked, sense, strength, regulariser, normalise FROM staged('benchmarks')
    ORDER BY profile, benchmark;
COMMENT ON TABLE stg_benchmarks IS 'What the benchmarks of a profile are.';

CREATE TABLE stg_figures AS
    SELECT * EXCLUDE (stage) FROM staged('figures') ORDER BY profile, benchmark, attribute, position, figure;
COMMENT ON TABLE stg_figures IS 'Figures over seeds.';

CREATE TABLE stg_figures_seeds AS
    SELECT * EXCLUDE (stage) FROM staged('figures_seeds') ORDER BY profile, benchmark, attribute, position, figure, seed;
COMMENT ON TABLE stg_figures_seeds IS 'Figures seed by seed.';

CREATE TABLE stg_measures AS
    SELECT * EXCLUDE (stage) FROM staged('measures') ORDER BY profile, section, position;
COMMENT ON TABLE stg_measures IS 'What the benchmarks show.';

CREATE TABLE stg_published AS
    SELECT * EXCLUDE (stage) FROM staged('published') ORDER BY profile, benchmark, method, position;
COMMENT ON TABLE stg_published IS 'What others measured.';

CREATE TABLE stg_curve AS
    SELECT profile, attribute, method, module, seed, alpha, trait, coherence, n
    FROM staged('curve') ORDER BY profile, attribute, method, seed, alpha NULLS FIRST;
COMMENT ON TABLE stg_curve IS 'Trait against coherence along α.';

CREATE TABLE stg_faithfulness AS
    SELECT profile, attribute, method, seed, alpha, chosen, layer, relative_rmse, low, high,
           above_floor, above_floor_low, above_floor_high, n
    FROM staged('faithfulness') ORDER BY profile, attribute, method, seed, alpha, layer;
COMMENT ON TABLE stg_faithfulness IS 'Relative RMSE per layer.';

CREATE TABLE stg_deviations AS
    SELECT profile, pair, method, seed, alpha, layer, squared_error, energy, tokens FROM staged('deviations')
    ORDER BY profile, pair, method, seed, alpha, layer;
COMMENT ON TABLE stg_deviations IS 'The sums per question behind it.';

CREATE TABLE stg_delta AS
    SELECT profile, attribute, seed, kind, layer, r, energy_share, low, high, n FROM staged('delta')
    ORDER BY profile, attribute, seed, kind, layer, r;
COMMENT ON TABLE stg_delta IS 'Directions of the prompt''s effect.';

CREATE TABLE stg_delta_strengths AS
    SELECT profile, attribute, seed, kind, layer, p01, p05, p25, p50, p75, p95, p99, spread, spread_low, spread_high, tokens, n
    FROM staged('delta_strengths') ORDER BY profile, attribute, seed, kind, layer;
COMMENT ON TABLE stg_delta_strengths IS 'Quantiles of its size over tokens.';

CREATE TABLE stg_delta_tokens AS
    SELECT profile, completion, seed, kind, layer, position, token, strength FROM staged('delta_tokens')
    ORDER BY profile, completion, seed, kind, layer, position;
COMMENT ON TABLE stg_delta_tokens IS 'Its size token by token.';

CREATE TABLE stg_readability AS
    SELECT profile, attribute, seed, kind, reads, reader, layer, r_squared, low, high, n FROM staged('readability')
    ORDER BY profile, attribute, seed, kind, reads, reader, layer;
COMMENT ON TABLE stg_readability IS 'How well its strength can be read off the activation.';

CREATE TABLE stg_bench AS
    SELECT profile, device, name, measured, against, goal, median, low, high, n, verdict, note, cores, threads, torch, dtype, model
    FROM staged('bench') ORDER BY profile, device, name;
COMMENT ON TABLE stg_bench IS 'Speed.';

CREATE TABLE stg_claims AS
    SELECT profile, claim, says, part, compared, published, value, low, high, cp2, cp2_low, cp2_high, margin, unit, why, verdict, claim_verdict,
           seeds, attributes, which, note, sql
    FROM staged('claims') ORDER BY profile, claim, part;
COMMENT ON TABLE stg_claims IS 'The paper''s claims.';

CREATE TABLE stg_adaptation AS
    SELECT * EXCLUDE (stage) FROM staged('adaptation') ORDER BY profile, attribute, method;
COMMENT ON TABLE stg_adaptation IS 'Prompt, steering and fine-tuning compared.';

CREATE TABLE stg_ablation AS SELECT * EXCLUDE (stage) FROM staged('ablation') ORDER BY profile, attribute, variant;
COMMENT ON TABLE stg_ablation IS 'Variants of one layer.';

CREATE TABLE stg_side_effects AS
    SELECT * EXCLUDE (stage) FROM staged('side_effects') ORDER BY profile, attribute, method, measure, turn;
COMMENT ON TABLE stg_side_effects IS 'What prompt and modules change besides what they are for.';

CREATE TABLE stg_verdicts AS
    SELECT * EXCLUDE (stage) FROM staged('verdicts') ORDER BY profile, judge, completion, dimension;
COMMENT ON TABLE stg_verdicts IS 'Ratings by further judges and people.';

CREATE TABLE stg_agreement AS
    SELECT * EXCLUDE (stage) FROM staged('agreement') ORDER BY profile, attribute, dimension, judge, other;
COMMENT ON TABLE stg_agreement IS 'Judges compared, two by two.';

-- The records of runs, which are JSON and of no stage (tasks/engine/history.py).
CREATE TABLE stg_runs AS
    FROM read_json(getvariable('runs'), format = 'newline_delimited', columns = {
        profile: 'VARCHAR', id: 'VARCHAR', who: 'VARCHAR', began: 'TIMESTAMP', ended: 'TIMESTAMP', outcome: 'VARCHAR',
        "commit": 'VARCHAR', dirty: 'BOOLEAN', changed: 'VARCHAR[]', host: 'VARCHAR', packages: 'MAP(VARCHAR, VARCHAR)',
        settings: 'VARCHAR'})
    ORDER BY profile, began, id;
COMMENT ON TABLE stg_runs IS 'Records of runs.';

CREATE TABLE stg_runs_steps AS
    FROM read_json(getvariable('runs_steps'), format = 'newline_delimited', columns = {
        profile: 'VARCHAR', run: 'VARCHAR', step: 'VARCHAR', outcome: 'VARCHAR', seconds: 'DOUBLE',
        outputs: 'MAP(VARCHAR, VARCHAR)', made: 'BOOLEAN'})
    ORDER BY profile, run, step;
COMMENT ON TABLE stg_runs_steps IS 'Steps of runs.';
