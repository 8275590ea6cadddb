"""The methods of docs/methods/ in plain PyTorch, written from their equations: what touchstone's training is compared with.

One sequence at a time, so that there is no padding, no mask and no batch that could be wrong; autograd for gradients;
torch's own AdamW and clipping. `compare.py` runs it. Nothing here is tuned for speed.
"""

import math

import torch
from torch.nn import functional as F

from decoders import logits, states

# --- What models say of a row --------------------------------------------------------------------------------------------


def log_probs(weights, config, row, temperature=1.0):
    """log π(token | before it) of every response token."""
    predicting = logits(weights, config, row["prompt"] + row["response"][:-1])[len(row["prompt"]) - 1 :] / temperature
    return predicting.log_softmax(-1).gather(1, torch.tensor(row["response"])[:, None])[:, 0]


def score(weights, config, row, bound=0.0):
    """r(x, y), read at the last token of y."""
    raw = states(weights, config, row["prompt"] + row["response"])[-1] @ weights["score.weight"][0]
    return raw if bound == 0 else bound * torch.tanh(raw / bound)


# --- One optimiser for all methods ---------------------------------------------------------------------------------------


def rate(settings, step, total):
    """Learning rate of optimiser step `step` (from 0) of `total`."""
    warmup = settings["warmup_steps"]
    if step < warmup:
        return settings["learning_rate"] * (step + 1) / warmup
    progress = (step - warmup) / max(total - warmup, 1)
    shape = {"constant": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
    return settings["learning_rate"] * shape[settings["schedule"]]


class Trainer:
    """Trains `weights` and keeps every step's loss, gradients and their norm."""

    def __init__(self, weights, settings, total):
        self.weights = {name: weight.clone().requires_grad_() for name, weight in weights.items()}
        self.settings, self.total = settings, total
        betas = settings["beta_1"], settings["beta_2"]
        self.optimiser = torch.optim.AdamW(self.weights.values(), betas=betas, eps=settings["epsilon"],
                                           weight_decay=settings["weight_decay"])
        self.losses, self.norms, self.gradients = [], [], []

    def step(self, loss):
        self.optimiser.zero_grad()
        loss.backward()
        self.gradients.append({name: weight.grad.clone() for name, weight in self.weights.items()})
        limit = self.settings["clip_norm"] or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.weights.values(), limit)
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.settings, len(self.losses), self.total)
        self.optimiser.step()
        self.losses.append(loss.item())
        self.norms.append(norm.item())


# --- Methods -------------------------------------------------------------------------------------------------------------


def sft(problem, weights):
    """Mean of −log π(y|x) over tokens; prompt tokens but the first count `prompt_weight`."""
    config, settings = problem["config"], problem["settings"]
    trainer = Trainer(weights, settings["optimiser"], len(problem["steps"]))
    for rows in problem["steps"]:
        loss, total = 0.0, 0.0
        for row in rows:
            whole = {"prompt": row["prompt"][:1], "response": row["prompt"][1:] + row["response"]}
            prompt = len(row["prompt"]) - 1
            weight = torch.tensor([settings["prompt_weight"]] * prompt + [1.0] * len(row["response"]))
            loss = loss - (weight * log_probs(trainer.weights, config, whole)).sum()
            total += weight.sum()
        trainer.step(loss / total)
    return trainer


def iq_learn(problem, weights):
    """−J per token, J = Σ_t log π(a_t|s_t) − λ·(Q(s_t, a_t) − V(s_{t+1}))², Q the logits, V their log Σ exp, 0 at the end."""
    config, settings = problem["config"], problem["settings"]
    trainer = Trainer(weights, settings["optimiser"], len(problem["steps"]))
    for rows in problem["steps"]:
        total = sum(len(row["response"]) for row in rows)
        objective = 0.0
        for row in rows:
            every = logits(trainer.weights, config, row["prompt"] + row["response"][:-1])[len(row["prompt"]) - 1 :]
            value = every.logsumexp(-1)
            action = every.gather(1, torch.tensor(row["response"])[:, None])[:, 0]
            rewards = action - torch.cat([value[1:], value.new_zeros(1)])
            objective = objective + (action - value - settings["lambda"] * rewards**2).sum()
        trainer.step(-objective / total)
    return trainer


def spin(problem, weights):
    """−log σ(β·[log π/π_t (y) − log π/π_t (ỹ)]), π_t the start; the DPO loss."""
    return preference_optimisation(problem, weights, weights)


def dpo(problem, weights):
    """−log σ(β·[log π/π_ref (y_w) − log π/π_ref (y_l)]), π_ref another model."""
    mine = {name: weight for name, weight in weights.items() if not name.startswith("reference.")}
    theirs = {name.removeprefix("reference."): weight for name, weight in weights.items() if name not in mine}
    return preference_optimisation(problem, mine, theirs)


def preference_optimisation(problem, weights, reference):
    config, settings = problem["config"], problem["settings"]
    trainer = Trainer(weights, settings["optimiser"], len(problem["steps"]))

    def gap(weights, pair):
        return log_probs(weights, config, pair["chosen"]).sum() - log_probs(weights, config, pair["rejected"]).sum()

    for pairs in problem["steps"]:
        with torch.no_grad():
            opponent = [gap(reference, pair) for pair in pairs]
        margins = torch.stack([gap(trainer.weights, pair) - fixed for pair, fixed in zip(pairs, opponent)])
        losses = {
            "sigmoid": lambda: -F.logsigmoid(settings["beta"] * margins),
            "ipo": lambda: (margins - 1 / (2 * settings["beta"])) ** 2,
        }
        trainer.step(losses[settings.get("loss", "sigmoid")]().mean())
    return trainer


def reward(problem, weights):
    """eq. 11: −log σ(Δ); eq. 10: −Δ, with Δ = r(chosen) − r(rejected); hinge: max(0, m − Δ); margin: −log σ(Δ − m)."""
    config, settings = problem["config"], problem["settings"]
    trainer = Trainer(weights, settings["optimiser"], len(problem["steps"]))
    for pairs in problem["steps"]:
        scores = [[score(trainer.weights, config, pair[side], settings["bound"]) for side in ("chosen", "rejected")]
                  for pair in pairs]
        delta = torch.stack([chosen - rejected for chosen, rejected in scores])
        losses = {
            "eq10": lambda: -delta,
            "eq11": lambda: -F.logsigmoid(delta),
            "hinge": lambda: (settings["margin"] - delta).clamp(min=0),
            "eq11_margin": lambda: -F.logsigmoid(delta - settings["margin"]),
        }
        squares = torch.stack([chosen**2 + rejected**2 for chosen, rejected in scores])
        trainer.step((losses[settings["loss"]]() + settings["l2"] / 2 * squares).mean())
    return trainer


def ppo(problem, weights):
    """Clipped surrogate and clipped value loss on given rollouts; KL in the reward, GAE, whitened advantages."""
    config, settings = problem["config"], problem["settings"]
    policy = {f"policy.{name}": weight for name, weight in weights.items() if not name.startswith("value_")}
    critic = {name: weight for name, weight in weights.items() if name.startswith("value_")}
    steps = sum(len(update["minibatches"]) for update in problem["updates"])
    trainer = Trainer(policy | critic, settings["optimiser"], steps)
    trainer.margin = math.inf

    def part(prefix):
        named = {name.removeprefix(prefix): weight for name, weight in trainer.weights.items() if name.startswith(prefix)}
        return named

    def values(row):
        """V of the state before each response token."""
        before = row["prompt"] + row["response"][:-1]
        if problem["settings"]["critic"] == "zero_head":
            features = states(part("policy."), config, before).detach()[len(row["prompt"]) - 1 :]
            return features @ trainer.weights["value_head.weight"][0] + trainer.weights["value_head.bias"]
        network = part("value_network.")
        raw = states(network, config, before)[len(row["prompt"]) - 1 :] @ network["score.weight"][0]
        return (raw - problem["normalisation"]["mean"]) / problem["normalisation"]["std"]

    for update in problem["updates"]:
        rollouts = update["rollouts"]
        with torch.no_grad():
            trainer.margin = min(trainer.margin, *(redraw(part("policy."), config, settings, row) for row in rollouts))
            old = [log_probs(part("policy."), config, row, settings["temperature"]) for row in rollouts]
            reference = [log_probs(weights, config, row, settings["temperature"]) for row in rollouts]
            old_values = [values(row) for row in rollouts]
        advantages, returns = [], []
        for row, p, q, v in zip(rollouts, old, reference, old_values):
            rewards = -settings["kl_coefficient"] * (p - q)
            rewards[-1] += row["score"] if row["ended"] else problem["floor"]
            advantages.append(generalised_advantages(rewards, v, settings["gamma"], settings["lambda"]))
            returns.append(advantages[-1] + v)
        if settings["whiten_advantages"]:
            every = torch.cat(advantages)
            mean, deviation = every.mean(), (every.var(correction=0) + 1e-8).sqrt()
            advantages = [(advantage - mean) / deviation for advantage in advantages]
        for minibatch in update["minibatches"]:
            trainer.step(surrogate_and_value_loss(
                settings,
                torch.cat([log_probs(part("policy."), config, rollouts[row], settings["temperature"]) for row in minibatch]),
                torch.cat([values(rollouts[row]) for row in minibatch]),
                *(torch.cat([kept[row] for row in minibatch]) for kept in (old, old_values, advantages, returns)),
            ))
    return trainer


def rloo(problem, weights):
    """−mean min(ρA, clip(ρ)A) on given rollouts, A the return less the mean of the prompt's others, KL in the return."""
    config, settings = problem["config"], problem["settings"]
    trainer = Trainer(weights, settings["optimiser"], len(problem["updates"]) * settings["epochs"])
    trainer.margin = math.inf

    def whole(weights, rollouts):
        return torch.stack([log_probs(weights, config, row, settings["temperature"]).sum() for row in rollouts])

    for update in problem["updates"]:
        rollouts, k = update["rollouts"], settings["samples"]
        with torch.no_grad():
            trainer.margin = min(trainer.margin, *(redraw(trainer.weights, config, settings, row) for row in rollouts))
            old = whole(trainer.weights, rollouts)
            scores = torch.tensor([row["score"] if row["ended"] else problem["floor"] for row in rollouts])
            returns = (scores - settings["kl_coefficient"] * (old - whole(weights, rollouts))).view(-1, k)
            others = (returns.sum(1, keepdim=True) - returns) / (k - 1)
            advantages = (returns - others).flatten()
        for _ in range(settings["epochs"]):
            ratio = (whole(trainer.weights, rollouts) - old).exp()
            clipped = ratio.clamp(1 - settings["clip"], 1 + settings["clip"])
            trainer.step(-torch.minimum(ratio * advantages, clipped * advantages).mean())
    return trainer


def grpo(problem, weights):
    """−mean_i 1/|y_i| Σ_t [min(ρA, clip(ρ)A) − β·(e^d − d − 1)] on given rollouts, A the score less the group's mean over its
    standard deviation plus 1e-4, d = log π_ref − log π."""
    config, settings = problem["config"], problem["settings"]
    trainer = Trainer(weights, settings["optimiser"], len(problem["updates"]) * settings["epochs"])
    trainer.margin = math.inf

    def tokens(weights, rollouts):
        return [log_probs(weights, config, row, settings["temperature"]) for row in rollouts]

    for update in problem["updates"]:
        rollouts = update["rollouts"]
        with torch.no_grad():
            trainer.margin = min(trainer.margin, *(redraw(trainer.weights, config, settings, row) for row in rollouts))
            old, reference = tokens(trainer.weights, rollouts), tokens(weights, rollouts)
        scores = torch.tensor([row["score"] if row["ended"] else problem["floor"] for row in rollouts])
        groups = scores.view(-1, settings["samples"])
        deviation = groups.std(1, keepdim=True)
        advantages = ((groups - groups.mean(1, keepdim=True)) / (deviation + 1e-4)).flatten()
        for _ in range(settings["epochs"]):
            gains = []
            for row, p, q, advantage in zip(tokens(trainer.weights, rollouts), old, reference, advantages):
                ratio, gap = (row - p).exp(), q - row
                clipped = ratio.clamp(1 - settings["clip"], 1 + settings["clip"])
                surrogate = torch.minimum(ratio * advantage, clipped * advantage)
                gains.append((surrogate - settings["kl_coefficient"] * (gap.exp() - gap - 1)).mean())
            trainer.step(-torch.stack(gains).mean())
    return trainer


def generalised_advantages(rewards, values, gamma, lambda_):
    """A_k = Σ_j (γλ)^j δ_{k+j} with δ_k = R_k + γ·V_{k+1} − V_k and V = 0 after the last token."""
    after = torch.cat([values[1:], values.new_zeros(1)])
    delta = rewards + gamma * after - values
    decay = gamma * lambda_
    return torch.stack([sum(decay**j * later for j, later in enumerate(delta[k:])) for k in range(len(delta))])


def surrogate_and_value_loss(settings, log_probs, values, old, old_values, advantages, returns):
    ratio = (log_probs - old).exp()
    clipped = ratio.clamp(1 - settings["clip"], 1 + settings["clip"])
    policy_loss = -torch.minimum(ratio * advantages, clipped * advantages).mean()
    near = old_values + (values - old_values).clamp(-settings["clip_value"], settings["clip_value"])
    value_loss = 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean()
    return policy_loss + settings["value_coefficient"] * value_loss


def redraw(weights, config, settings, row):
    """Draws the response again from the same uniforms; returns by how much the nearest of them missed another token."""
    predicting = logits(weights, config, row["prompt"] + row["response"][:-1])[len(row["prompt"]) - 1 :]
    cumulated = (predicting / settings["temperature"]).softmax(-1).cumsum(-1)
    cumulated = cumulated / cumulated[:, -1:]
    uniforms = torch.tensor(row["uniforms"], dtype=cumulated.dtype)[:, None]
    drawn = (cumulated <= uniforms).sum(-1).tolist()
    assert drawn == row["response"], f"{row['response']} was sampled where the same uniforms give {drawn}"
    return (cumulated[:, :-1] - uniforms).abs().min().item()


METHODS = {"sft": sft, "iq_learn": iq_learn, "spin": spin, "dpo": dpo, "reward": reward, "ppo": ppo, "rloo": rloo,
           "grpo": grpo}
