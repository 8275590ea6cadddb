"""Golden values for the statistics tests, from scipy on random tables.

    python3 -m venv /tmp/goldens && /tmp/goldens/bin/pip install scipy==1.17.1 numpy==2.4.6
    /tmp/goldens/bin/python tests/stats_goldens.py > tests/stats_goldens.json
"""

import json

import numpy as np
from scipy import optimize, stats

rng = np.random.default_rng(20250313)


def power(n, d, alpha):
    critical = stats.t.ppf(1 - alpha / 2, n - 1)
    shift = d * np.sqrt(n)
    # Where scipy gives up on the wrong side's tail (NaN), the tail is below any precision asked for.
    return stats.nct.sf(critical, n - 1, shift) + np.nan_to_num(stats.nct.cdf(-critical, n - 1, shift))


def comparison(n, level):
    a, b = rng.normal(0.6, 0.05, n), rng.normal(0.57, 0.06, n)
    interval = stats.ttest_1samp(a, 0).confidence_interval(level)
    test = stats.ttest_rel(a, b)
    difference = test.confidence_interval(level)
    sd, margin = np.std(a - b, ddof=1), 0.1
    shift = optimize.brentq(lambda s: power(n, s / np.sqrt(n), 1 - level) - 0.8, 1e-3, 90, xtol=1e-13)
    return {
        "a": a.tolist(),
        "b": b.tolist(),
        "level": level,
        "mean": a.mean(),
        "se": stats.sem(a),
        "interval": [interval.low, interval.high],
        "t": test.statistic,
        "p": test.pvalue,
        "difference_interval": [difference.low, difference.high],
        "mde": shift * sd / np.sqrt(n),
        "welch": stats.ttest_ind(a, b, equal_var=False).pvalue,
        "wilcoxon": stats.wilcoxon(a, b, method="exact").pvalue,
        "mann_whitney": stats.mannwhitneyu(a, b, method="exact").pvalue,
        "probability_of_improvement": stats.mannwhitneyu(a, b).statistic / n**2,
        "margin": margin,
        "tost_lower": stats.ttest_1samp(a - b, -margin, alternative="greater").pvalue,
        "tost_upper": stats.ttest_1samp(a - b, margin, alternative="less").pvalue,
    }


def proportion(successes, n, level):
    interval = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    return {"successes": successes, "n": n, "level": level, "interval": [interval.low, interval.high]}


def seeds(d, alpha, target):
    n = 2
    while power(n, d, alpha) < target:
        n += 1
    return {"d": d, "alpha": alpha, "power": target, "n": n}


def family(size):
    p = rng.beta(0.3, 2, size)
    order = np.argsort(p)
    holm = np.empty(size)
    holm[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(size, 0, -1)), 1)
    return {"p": p.tolist(), "holm": holm.tolist(), "bh": stats.false_discovery_control(p).tolist()}


def mcnemar(b, c):
    return {"b": b, "c": c, "p": stats.binomtest(b, b + c).pvalue}


print(
    json.dumps(
        {
            "comparisons": [comparison(n, level) for n in (2, 3, 4, 5, 10, 25) for level in (0.9, 0.95, 0.99)],
            "proportions": [
                proportion(k, n, level)
                for k, n in ((0, 1), (1, 1), (7, 9), (500, 1000), (999, 1000))
                for level in (0.8, 0.95, 0.999)
            ],
            "powers": [
                {"n": n, "d": d, "alpha": alpha, "power": power(n, d, alpha)}
                for n in (2, 3, 5, 10, 50, 500)
                for d in (0.0, 0.1, 0.5, 1.0, 2.5)
                for alpha in (0.01, 0.05, 0.2)
            ],
            "seeds": [seeds(d, alpha, 0.8) for d in (0.2, 0.5, 1.0, 2.0, 4.0) for alpha in (0.01, 0.05)],
            "families": [family(size) for size in (1, 4, 9)],
            "mcnemar": [mcnemar(b, c) for b, c in ((12, 5), (1, 0), (3, 3), (40, 80), (600, 500))],
            "quantiles": [
                {"df": df, "level": level, "t": stats.t.ppf(0.5 + level / 2, df)}
                for df in (1, 2, 4, 9, 29.5, 1e3, 1e5, 1e8)
                for level in (0.5, 0.9, 0.95, 0.999)
            ],
        },
        indent=1,
    )
)
