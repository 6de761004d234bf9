"""The losses once more, in NumPy, straight from their definitions."""

import numpy as np


def log_softmax(z):
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def softmax(z):
    return np.exp(log_softmax(z))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def soft_target_loss(teacher, student, temperature):
    """KL(teacher || student) * T**2, one value per sample: sum over classes."""
    t = log_softmax(teacher / temperature)
    s = log_softmax(student / temperature)
    return temperature**2 * np.sum(np.exp(t) * (t - s), axis=-1)


def soft_target_gradient(teacher, student, temperature):
    """Its gradient by the student's logits, per sample."""
    difference = softmax(student / temperature) - softmax(teacher / temperature)
    return temperature * difference


def bernoulli_loss(teacher, student, temperature):
    p, q = sigmoid(teacher / temperature), sigmoid(student / temperature)
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return temperature**2 * kl.sum(-1)


def decoupled_parts(teacher, student, labels, temperature):
    """TCKD and NCKD, from probabilities."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    found = []
    for row in range(len(p)):
        target = labels[row]
        others = [c for c in range(p.shape[1]) if c != target]
        a, b = p[row, target], q[row, target]
        tckd = a * np.log(a / b) + (1 - a) * np.log((1 - a) / (1 - b))
        p_hat, q_hat = p[row, others] / (1 - a), q[row, others] / (1 - b)
        found.append([tckd, np.sum(p_hat * np.log(p_hat / q_hat))])
    return temperature**2 * np.array(found).T


def dist_parts(teacher, student, temperature):
    """1 - r of every row, and the mean over the columns of 1 - r."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    rows = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p, q, strict=True)]
    columns = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(p.T, q.T, strict=True)]
    return np.array(rows), np.mean(columns)


def attention_loss(teacher, student):
    maps = []
    for features in (teacher, student):
        one = (features**2).mean(-1).reshape(len(features), -1)
        maps.append(one / np.linalg.norm(one, axis=1, keepdims=True))
    return ((maps[0] - maps[1]) ** 2).sum(1)


def similarity_loss(teacher, student):
    """The loss of the whole batch."""
    matrices = []
    for features in (teacher, student):
        flat = features.reshape(len(features), -1)
        gram = flat @ flat.T
        matrices.append(gram / np.linalg.norm(gram, axis=1, keepdims=True))
    return np.sum((matrices[0] - matrices[1]) ** 2) / len(teacher) ** 2


def huber(x):
    return np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5)


def distance_loss(teacher, student):
    found = []
    for features in (teacher, student):
        flat = features.reshape(len(features), -1)
        d = np.linalg.norm(flat[:, None] - flat[None, :], axis=-1)
        found.append(d / d[d > 0].mean())
    return huber(found[0] - found[1]).mean()


def angle_loss(teacher, student):
    found = []
    for features in (teacher, student):
        count = len(features)
        cosines = np.zeros((count, count, count))
        for i in range(count):
            for j in range(count):
                for k in range(count):
                    a, b = features[j] - features[i], features[k] - features[i]
                    size = np.linalg.norm(a) * np.linalg.norm(b)
                    cosines[i, j, k] = a @ b / size if size else 0.0
        found.append(cosines)
    return huber(found[0] - found[1]).mean()


def info_nce(teacher, student, temperature):
    scores = student @ teacher.T / temperature
    return -np.diag(log_softmax(scores))
