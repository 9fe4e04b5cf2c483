/** Difference of a node's score of the probe texts from that of the others, nats a token, from which on it does not match. */
export const PROBE_TOLERANCE = 0.03
