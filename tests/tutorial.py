"""The tutorial's functions (S2) as it prints them, and its Adam mended: linear regression by nine rules."""

import numpy as np


def batch_gradient_descent(X, y, lr=0.01, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    for _ in range(epochs):
        gradient = (1 / m) * X.T @ (X @ theta - y)
        theta -= lr * gradient
    return theta


def stochastic_gradient_descent(X, y, lr=0.01, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    for _ in range(epochs):
        for i in range(m):
            xi = X[i : i + 1]
            yi = y[i : i + 1]
            gradient = xi.T @ (xi @ theta - yi)
            theta -= lr * gradient
    return theta


def mini_batch_gradient_descent(X, y, lr=0.01, epochs=100, batch_size=32):
    m, n = X.shape
    theta = np.zeros(n)
    for _ in range(epochs):
        indices = np.random.permutation(m)
        X_shuffled = X[indices]
        y_shuffled = y[indices]
        for i in range(0, m, batch_size):
            X_batch = X_shuffled[i : i + batch_size]
            y_batch = y_shuffled[i : i + batch_size]
            gradient = (1 / len(X_batch)) * X_batch.T @ (X_batch @ theta - y_batch)
            theta -= lr * gradient
    return theta


def gradient_descent_with_momentum(X, y, lr=0.01, gamma=0.9, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    v = np.zeros(n)
    for _ in range(epochs):
        gradient = (1 / m) * X.T @ (X @ theta - y)
        v = gamma * v + lr * gradient
        theta -= v
    return theta


def nesterov_accelerated_gradient(X, y, lr=0.01, gamma=0.9, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    v = np.zeros(n)
    for _ in range(epochs):
        theta_ahead = theta - gamma * v
        gradient = (1 / m) * X.T @ (X @ theta_ahead - y)
        v = gamma * v + lr * gradient
        theta -= v
    return theta


def adagrad(X, y, lr=0.1, eps=1e-8, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    G = np.zeros(n)
    for _ in range(epochs):
        gradient = (1 / m) * X.T @ (X @ theta - y)
        G += gradient**2
        theta -= (lr / np.sqrt(G + eps)) * gradient
    return theta


def rmsprop(X, y, lr=0.01, gamma=0.9, eps=1e-8, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    Eg2 = np.zeros(n)
    for _ in range(epochs):
        gradient = (1 / m) * X.T @ (X @ theta - y)
        Eg2 = gamma * Eg2 + (1 - gamma) * (gradient**2)
        theta -= (lr / np.sqrt(Eg2 + eps)) * gradient
    return theta


def adam(X, y, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    m = np.zeros(n)
    v = np.zeros(n)
    for t in range(1, epochs + 1):
        gradient = (1 / m) * X.T @ (X @ theta - y)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * (gradient**2)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta -= (lr * m_hat) / (np.sqrt(v_hat) + eps)
    return theta


def adamw(X, y, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01, epochs=100):
    m, n = X.shape
    theta = np.zeros(n)
    m = np.zeros(n)
    v = np.zeros(n)
    for t in range(1, epochs + 1):
        gradient = (1 / m) * X.T @ (X @ theta - y)
        m = beta1 * m + (1 - beta1) * gradient
        v = beta2 * v + (1 - beta2) * (gradient**2)
        m_hat = m / (1 - beta1**t)
        v_hat = v / (1 - beta2**t)
        theta -= lr * (m_hat / (np.sqrt(v_hat) + eps) + weight_decay * theta)
    return theta


def mended(decay=0.0, eps_in_sqrt=False):
    """adam, or with a decay adamw, the number of rows under a name of its own; or with the prose's eps."""

    def run(X, y, lr=0.001, beta1=0.9, beta2=0.999, eps=1e-8, epochs=100):
        rows, n = X.shape
        theta, m, v = np.zeros(n), np.zeros(n), np.zeros(n)
        for t in range(1, epochs + 1):
            gradient = (1 / rows) * X.T @ (X @ theta - y)
            m = beta1 * m + (1 - beta1) * gradient
            v = beta2 * v + (1 - beta2) * (gradient**2)
            m_hat = m / (1 - beta1**t)
            v_hat = v / (1 - beta2**t)
            by = np.sqrt(v_hat + eps) if eps_in_sqrt else np.sqrt(v_hat) + eps
            theta -= lr * (m_hat / by + decay * theta)
        return theta

    return run
