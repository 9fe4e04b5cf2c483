import { createRandom } from '../harness/random.ts'
import { GREEDY } from '../../../gpu-node/src/serving/contract/greedy.ts'
import type {
  Backend,
  SampledToken,
  SamplerSpec,
  SequenceOutput,
  SequenceWork,
  WeightSet,
} from '../../../gpu-node/src/serving/contract/backend.ts'

/** A sampled token. */
export type Token = Extract<SequenceOutput, { kind: 'token' }>

/** A greedy sampler that returns the five most probable tokens. */
export const WITH_LOGPROBS: SamplerSpec = { ...GREEDY, seed: 1, topLogprobs: 5, promptTokens: 1 }

/** Runs steps of sequences on one weight set. */
export class Steps {
  readonly backend: Backend
  readonly weights: WeightSet

  constructor(backend: Backend, weights: WeightSet) {
    this.backend = backend
    this.weights = weights
  }

  async run(work: readonly SequenceWork[], drop: readonly number[] = []): Promise<SequenceOutput[]> {
    return (await this.backend.step({ weights: this.weights, work, drop })).outputs
  }

  async one(work: SequenceWork): Promise<SequenceOutput> {
    return (await this.run([work]))[0] as SequenceOutput
  }

  async nll(sequence: number, tokens: Int32Array, targets: Int32Array, position = 0): Promise<Float32Array> {
    const output = await this.one({ sequence, tokens, position, output: 'nll', targets })
    if (output.kind !== 'nll') throw new Error(`expected nll, got ${output.kind}`)
    return output.nll
  }

  /** Prefills `prompt` and decodes `count` tokens, one step each. */
  async generate(
    sequence: number,
    prompt: Int32Array,
    count: number,
    sampler: Partial<SamplerSpec> = {},
  ): Promise<Token[]> {
    const outputs = [(await this.one(generateWork(sequence, prompt, sampler))) as Token]
    while (outputs.length < count) {
      const tokens = Int32Array.of(outputs.at(-1)!.token)
      const position = prompt.length + outputs.length - 1
      outputs.push((await this.one({ sequence, tokens, position, output: 'token' })) as Token)
    }
    return outputs
  }
}

/** Returns the work that prefills a prompt and samples the next token. */
export function generateWork(
  sequence: number,
  tokens: Int32Array,
  sampler: Partial<SamplerSpec> = {},
): SequenceWork {
  const spec = { ...WITH_LOGPROBS, promptTokens: tokens.length, ...sampler }
  return { sequence, tokens, position: 0, sampler: spec, output: 'token' }
}

/** Returns seeded tokens of the tiny model's vocabulary. */
export function randomTokens(seed: number, count: number): Int32Array {
  const random = createRandom(seed)
  return Int32Array.from({ length: count }, () => Math.floor(random() * 300))
}

export const tokenIds = (outputs: readonly SampledToken[]) => outputs.map(({ token }) => token)
export const logprobs = (outputs: readonly SampledToken[]) => outputs.map(({ logprob }) => logprob)
