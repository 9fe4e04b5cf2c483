/** How something is: `good`, does `harm`, is `busy`, or neither. */
export type Tone = 'good' | 'harm' | 'busy' | 'quiet'
