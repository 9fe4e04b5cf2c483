/** The salt of a tenant's prefix keys. */
export type PrefixSalt = readonly [number, number]

/** The parts of a prompt in the order in which the model reads them: texts or token ids. */
export type PromptParts = readonly (string | readonly number[])[]
