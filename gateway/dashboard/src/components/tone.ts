/** Meaning of a state for the operator; `quiet` is neither good nor bad. */
export type Tone = 'good' | 'harm' | 'busy' | 'quiet'
