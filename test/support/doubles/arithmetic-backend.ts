import { AppError } from '@copal/shared/errors.ts'
import {
  PAGE_TOKENS,
  type Backend,
  type SampledToken,
  type SamplerSpec,
  type SequenceOutput,
  type SequenceWork,
  type StepPlan,
  type TokenMask,
  type WeightSet,
  type WeightSetSource,
} from '../../../gpu-node/src/serving/contract/backend.ts'
import { createRandom } from '../harness/random.ts'

/** Size of a hidden state. */
export const HIDDEN_SIZE = 3

/**
 * A backend whose next token is arithmetic on (version, seed, all tokens so far), for faults that a real backend cannot be
 * made to have. It reads the tokens so far from the pages that the plan names, so that a page that is shared or freed too
 * early changes the text. It rejects every plan that breaks the contract of backend.ts.
 */
export interface ArithmeticBackend extends Backend {
  /** Makes a set without a model behind it. */
  weights(version: number): WeightSet
  /** The set dies: steps in flight and later ones are rejected, `ended` settles. */
  kill(weights: WeightSet): void
  /** Tokens of the pages of all sequences it knows, shared ones once, and the most there ever were. */
  readonly kvTokens: number
  readonly kvTokensPeak: number
  /** Plans that were run, oldest first. */
  readonly plans: StepPlan[]
  /** Returns the tokens that the given request generates when it runs alone. */
  expected(version: number, prompt: readonly number[], sampler: { seed: number }, count: number): number[]
  /** The mean of the hidden states that the given text has on the version. */
  expectedEmbedding(version: number, tokens: readonly number[]): number[]
}

export interface ArithmeticOptions {
  vocabSize?: number
  /** Awaited in every step: delays, gates, or throws to reject the step. */
  onStep?: (plan: StepPlan) => Promise<void>
  /** Steps finish after a seeded number of turns of the event loop, so that lanes interleave. */
  seed?: number
}

export function createArithmeticBackend(options: ArithmeticOptions = {}): ArithmeticBackend {
  const vocabSize = options.vocabSize ?? 256
  const random = createRandom(options.seed ?? 1)
  const sequences = new Map<
    number,
    { weights: WeightSet; length: number; pages: readonly number[]; sampler: SamplerSpec | undefined }
  >()
  const controls = new Map<
    WeightSet,
    { end: (cause: Error | undefined) => void; dead: boolean; busy: boolean }
  >()
  const plans: StepPlan[] = []
  let kvTokensPeak = 0
  /** The tokens that were last written to each page, and their weight set. */
  const memory = new Map<number, { weights: WeightSet; tokens: number[] }>()
  const kvTokens = () => new Set([...sequences.values()].flatMap(({ pages }) => pages)).size * PAGE_TOKENS

  const weightsOf = (source: WeightSetSource): WeightSet => {
    const { promise, resolve } = Promise.withResolvers<Error | undefined>()
    const weights: WeightSet = {
      version: source.version,
      source,
      paged: true,
      takesDrafts: true,
      ended: promise,
    }
    controls.set(weights, { end: resolve, dead: false, busy: false })
    return weights
  }
  const controlOf = (weights: WeightSet) => {
    const control = controls.get(weights)
    if (!control) throw new Error('unknown weight set')
    return control
  }

  /** @param masks of the tokens that may be sampled at each place; null for all */
  const run = (
    weights: WeightSet,
    work: SequenceWork,
    masks: readonly (TokenMask | null)[],
  ): SequenceOutput => {
    const pages = work.pages ?? []
    const { length: cached } = work.cached ?? []
    if (work.position === 0 || work.cached) {
      if (cached !== work.position || cached % PAGE_TOKENS !== 0) throw new Error('cached tokens do not fit')
      if (sequences.has(work.sequence))
        throw new Error(`sequence ${work.sequence} starts twice without a drop`)
      if ((work.output === 'token' || work.output === 'none') && !work.sampler) {
        throw new Error(`sequence ${work.sequence} starts without a sampler`)
      }
      sequences.set(work.sequence, { weights, length: cached, pages, sampler: work.sampler })
    } else if (work.sampler) throw new Error('a sampler came after the first chunk')
    const sequence = sequences.get(work.sequence)
    if (!sequence) throw new Error(`sequence ${work.sequence} is unknown`)
    if (sequence.weights !== weights) throw new Error(`sequence ${work.sequence} mixes two weight sets`)
    if (sequence.length !== work.position) throw new Error(`sequence ${work.sequence} has a gap`)
    if (work.tokens.length === 0) throw new Error('empty work')
    if (pages.length !== Math.ceil((work.position + work.tokens.length) / PAGE_TOKENS))
      throw new Error(`sequence ${work.sequence} has ${pages.length} pages`)
    const tokens: number[] = []
    for (const page of pages.slice(0, Math.ceil(work.position / PAGE_TOKENS))) {
      const written = memory.get(page)
      if (written?.weights !== weights)
        throw new Error(`sequence ${work.sequence} reads a page of other weights`)
      tokens.push(...written.tokens)
    }
    tokens.length = work.position
    if (work.cached?.some((token, i) => token !== tokens[i]))
      throw new Error('a shared page has other tokens')
    const nll = new Float32Array(work.tokens.length)
    const sum = new Float32Array(HIDDEN_SIZE)
    work.tokens.forEach((token, index) => {
      const position = work.position + index
      const page = pages[position >> 4]!
      if (position % PAGE_TOKENS === 0) memory.set(page, { weights, tokens: [] })
      memory.get(page)!.tokens[position & 15] = token
      tokens.push(token)
      hidden(weights.version, tokens).forEach((value, i) => (sum[i]! += value))
      nll[index] = (mix(weights.version, 0, tokens) % 1000) / 100 + (work.targets?.[index] ?? 0) / 1e4
    })
    sequence.length = tokens.length
    sequence.pages = pages
    if (work.output === 'none') return { kind: 'none' }
    const scored = nll.filter((_, i) => (work.targets?.[i] ?? -1) !== -1)
    if (work.output === 'nll') return { kind: 'nll', nll: scored }
    if (work.output === 'hidden_sum') return { kind: 'hidden_sum', sum, nll: scored }
    if (work.drafts && work.drafts >= work.tokens.length) throw new Error('drafts do not fit')
    const sample = (length: number, allowed: TokenMask | null): SampledToken => {
      let token = mix(weights.version, sequence.sampler?.seed ?? 0, tokens.slice(0, length)) % vocabSize
      while (allowed && (((allowed[token >>> 5] as number) >>> (token & 31)) & 1) === 0)
        token = (token + 1) % vocabSize
      return { token, logprob: -0.5, top: [] }
    }
    const sampled = [sample((sequence.length -= work.drafts ?? 0), masks[0]!)]
    while (tokens[sequence.length] === sampled.at(-1)!.token && sampled.length < masks.length)
      sampled.push(sample(++sequence.length, masks[sampled.length]!))
    const [first, ...more] = sampled
    return { kind: 'token', ...first!, more }
  }

  return {
    name: 'arithmetic',
    plans,
    get kvTokens() {
      return kvTokens()
    },
    get kvTokensPeak() {
      return kvTokensPeak
    },
    weights: (version) => weightsOf({ version, maskPath: null, priority: 'serving' } as WeightSetSource),
    load: (source) => Promise.resolve(weightsOf(source)),
    async step(plan) {
      const control = controlOf(plan.weights)
      if (control.dead) throw new AppError('node_failed', 'dead')
      if (control.busy) throw new Error('steps of one weight set overlap')
      control.busy = true
      try {
        await options.onStep?.(plan)
        for (let turns = 1 + Math.floor(random() * 3); turns > 0; turns--)
          await new Promise((resolve) => setImmediate(resolve))
        if (control.dead) throw new AppError('node_failed', 'dead')
        for (const id of plan.drop) sequences.delete(id)
        const masks = await Promise.all(
          plan.work.map(async ({ allowed, allowedAfterDrafts, drafts = 0 }) => [
            (await allowed) ?? null,
            ...((await allowedAfterDrafts) ?? Array.from({ length: drafts }, () => null)),
          ]),
        )
        const outputs = plan.work.map((work, index) => run(plan.weights, work, masks[index]!))
        kvTokensPeak = Math.max(kvTokensPeak, kvTokens())
        plans.push(plan)
        return { outputs }
      } finally {
        control.busy = false
      }
    },
    release(weights) {
      this.kill(weights)
      return Promise.resolve()
    },
    kill(weights) {
      const control = controlOf(weights)
      control.dead = true
      for (const [id, sequence] of sequences) if (sequence.weights === weights) sequences.delete(id)
      control.end(new Error('killed'))
    },
    expected(version, prompt, sampler, count) {
      const tokens = [...prompt]
      for (let index = 0; index < count; index++) tokens.push(mix(version, sampler.seed, tokens) % vocabSize)
      return tokens.slice(prompt.length)
    },
    expectedEmbedding(version, tokens) {
      const states = tokens.map((_, index) => hidden(version, tokens.slice(0, index + 1)))
      return Array.from(
        { length: HIDDEN_SIZE },
        (_, i) => states.reduce((sum, state) => sum + state[i]!, 0) / tokens.length,
      )
    },
  }
}

/** A hidden state of small whole numbers, whose sums are exact in any order. */
function hidden(version: number, tokens: readonly number[]): number[] {
  return Array.from({ length: HIDDEN_SIZE }, (_, i) => mix(version, -1 - i, tokens) % 100)
}

/** FNV-1a over the version, the seed and every token. */
function mix(version: number, seed: number, tokens: readonly number[]): number {
  let hash = 0x811c9dc5
  for (const value of [version, seed, ...tokens]) hash = Math.imul(hash ^ value, 0x01000193) >>> 0
  return (hash ^ (hash >>> 15)) >>> 0
}
