/** What is measured, and how long. */
export interface Options {
  /** Times that everything is measured, all contenders in turn. */
  rounds: number
  /** Of one measurement. */
  seconds: number
  /** Of the load, kept open. */
  connections: number
  /** Characters of the prompt; undefined: a few sentences. */
  prompt: number | undefined
  /** Another checkout whose Worker is measured beside this one's. */
  against: string | undefined
  /** Where Portkey's gateway and LiteLLM are installed; undefined: they are looked for on the PATH. */
  portkey: string | undefined
  litellm: string | undefined
  /** Requests over which memory is watched, instead of all the rest; undefined: it is not. */
  memory: number | undefined
}

/** The flags, as `parseArgs` takes them. */
export const FLAGS = {
  rounds: { type: 'string' },
  seconds: { type: 'string' },
  connections: { type: 'string' },
  prompt: { type: 'string' },
  against: { type: 'string' },
  portkey: { type: 'string' },
  litellm: { type: 'string' },
  memory: { type: 'string' },
} as const

/** What `parseArgs` gave for {@link FLAGS}. */
export type Flags = { [name in keyof typeof FLAGS]?: string | undefined }

/**
 * Reads flags, and where one is missing the environment.
 *
 * @throws Error that names the flag and what it may be
 */
export function readOptions(flags: Flags, env: NodeJS.ProcessEnv): Options {
  return {
    rounds: whole('rounds', flags.rounds ?? '5'),
    seconds: positive('seconds', flags.seconds ?? '3'),
    connections: whole('connections', flags.connections ?? '16'),
    prompt: flags.prompt === undefined ? undefined : whole('prompt', flags.prompt),
    against: flags.against,
    portkey: flags.portkey ?? (env.COPAL_BENCH_PORTKEY || undefined),
    litellm: flags.litellm ?? (env.COPAL_BENCH_LITELLM || undefined),
    memory: flags.memory === undefined ? undefined : whole('memory', flags.memory),
  }
}

function whole(name: keyof Flags, text: string): number {
  const value = positive(name, text)
  if (!Number.isInteger(value)) throw new Error(`--${name}: a whole number is expected, not '${text}'`)
  return value
}

function positive(name: keyof Flags, text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !(value > 0 && value <= 1e9))
    throw new Error(`--${name}: a number above 0 is expected, not '${text}'`)
  return value
}
