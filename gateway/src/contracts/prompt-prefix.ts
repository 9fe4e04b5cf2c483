/** What a tenant's keys start from. */
export type PrefixSalt = readonly [number, number]

/** A prompt in the order in which the model reads it: texts, or token ids. */
export type PromptParts = readonly (string | readonly number[])[]
