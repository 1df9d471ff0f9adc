-- The figures of the paper's claims, as questions to the views. tasks/claims_sql.py fills the places and hands them out.

-- name: contrast
SELECT avg(difference) AS difference FROM (
    SELECT o.attribute, {scale}avg(o.{column} - e.{column}) AS difference
    FROM {view}_seeds o JOIN {view}_seeds e USING (profile, model, attribute, seed)
    WHERE o.profile = '{profile}' AND o.slug = '{ours}' AND e.slug = '{other}' AND o.{column} IS NOT NULL AND e.{column} IS NOT NULL
    GROUP BY o.attribute{having})

-- name: having
 HAVING {scale}avg(e.{column}) BETWEEN {low} AND {high}

-- name: spread
SELECT avg(log10(spread)) AS orders FROM delta_strengths WHERE profile = '{profile}' AND kind = 'acc' AND spread IS NOT NULL

-- name: floor
SELECT avg(difference) AS difference FROM (
    SELECT f.attribute, avg(-f.above_floor) AS difference FROM faithfulness f
    WHERE f.profile = '{profile}' AND f.method = {method} AND f.alpha = 1 AND 2 * f.layer >= {layers} AND f.above_floor IS NOT NULL
    GROUP BY f.attribute)

-- name: own
SELECT avg(difference) AS difference FROM (
    SELECT f.attribute, avg(f.relative_rmse - 1) AS difference FROM faithfulness f
    WHERE f.profile = '{profile}' AND f.method = {method} AND f.alpha = 1 AND f.own_layer
    GROUP BY f.attribute)

-- name: later
SELECT avg(difference) AS difference FROM (
    SELECT f.attribute, avg(1 - f.relative_rmse) AS difference
    FROM faithfulness f JOIN modules m ON m.profile = f.profile AND m.id = f.module
    WHERE f.profile = '{profile}' AND f.method = {method} AND f.alpha = 1 AND f.layer > m.layer
    GROUP BY f.attribute)
