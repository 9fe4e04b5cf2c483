import { setTimeout as sleep } from 'node:timers/promises'
import type { JsonSchema } from '@copal/shared/wire/schema-walk.ts'
import { FORMS } from './engine-contender.ts'
import type { StreamsLoad } from './streams-load.ts'
import { GREEDY } from '@copal/gpu-node/serving/contract/greedy.ts'
import { comparePairs, measureSpeed, runPairs } from '../measurement/paired-rounds.ts'
import { line } from '../measurement/report.ts'
import { createSparseBackend } from '@copal/gpu-node/serving/backends/sparse/sparse-backend.ts'
import { loadNative } from '@copal/gpu-node/platform/native-addon.ts'
import { createEngine } from '@copal/gpu-node/serving/engine/engine.ts'
import { createGrammarCompiler } from '@copal/gpu-node/serving/grammar/grammar-compiler.ts'
import { withLayout } from '@copal/gpu-node/serving/grammar/json-grammar.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { Engine } from '@copal/gpu-node/serving/engine/engine-api.ts'

/** Most tokens of a step with drafts, in the rounds that have some. */
const DRAFT_TOKENS = 8
const PASSAGE_TOKENS = 200
/** Tokens of a passage that its copy begins with. */
const BEGUN_TOKENS = 24
const NEW_TOKENS = 128

/** A schema of the kind that applications ask for: keys, a choice, numbers, and two short texts. */
const SCHEMA = {
  type: 'object',
  properties: {
    title: { type: 'string', maxLength: 40 },
    sentiment: { enum: ['positive', 'neutral', 'negative'] },
    characters: {
      type: 'array',
      items: {
        type: 'object',
        properties: { name: { type: 'string', maxLength: 20 }, mentions: { type: 'integer', maximum: 99 } },
        required: ['name', 'mentions'],
        additionalProperties: false,
      },
      minItems: 2,
      maxItems: 2,
    },
    summary: { type: 'string', maxLength: 80 },
  },
  required: ['title', 'sentiment', 'characters', 'summary'],
  additionalProperties: false,
} satisfies JsonSchema

/** The end of a prompt that requests {@link SCHEMA}. */
const JSON_REQUEST = `

The passage above as JSON. For example, for a passage in which Ann meets Bob:
{"title": "A walk", "sentiment": "neutral", "characters": [{"name": "Ann", "mentions": 3}, {"name": "Bob", "mentions": 1}], "summary": "Ann meets Bob."}
For the passage above:
`

interface Task {
  temperature: number
  prompt: (passage: readonly number[]) => readonly number[]
  /** Text that follows the prompt. */
  request?: string
  schema?: JsonSchema
}

/** What streams generate. */
const TASKS = {
  /** A passage of a text, which the output continues at temperature 0.8. */
  continue: { temperature: 0.8, prompt: (passage) => passage },
  /** The same without chance: small models soon repeat themselves. */
  greedy: { temperature: 0, prompt: (passage) => passage },
  /** A passage, and its first tokens again: the output copies it, as edits and summaries do in part. */
  copy: {
    temperature: 0,
    prompt: (passage) => [...passage, ...passage.slice(0, BEGUN_TOKENS)],
  },
  /** A passage, and a request for JSON of a schema. */
  json: { temperature: 0.8, prompt: (passage) => passage, request: JSON_REQUEST, schema: SCHEMA },
} satisfies Record<string, Task>

/** Names of {@link TASKS}. */
export const DRAFT_TASKS = Object.keys(TASKS) as (keyof typeof TASKS)[]

/**
 * Measures how much faster streams of the sparse engine are with drafts, in rounds with and without them in turn.
 *
 * @param text text of the model's tokens from which passages are taken
 * @returns lines for people
 * @throws NativeUnavailableError when the addon is not built
 */
export async function benchDrafts({
  model,
  maskPath,
  form,
  streams,
  rounds,
  roundMs,
  task,
  text,
}: StreamsLoad & {
  task: keyof typeof TASKS
  text: string
}): Promise<string[]> {
  const [precision, headPrecision] = FORMS[form]
  const { temperature, prompt, request = '', schema }: Task = TASKS[task]
  const constrain = schema && (await compile(model, schema))
  const tokens = model.codec.encode(text)
  let generated = 0
  let [drafted, accepted] = [0, 0]
  let passage = 0

  async function openEngine(draftTokens: number): Promise<Engine> {
    const backend = createSparseBackend({ addon: loadNative(), precision, headPrecision })
    const engine = createEngine({
      backend,
      config: model.config,
      codec: model.codec,
      policy: { maxRunning: streams, draftTokens },
      observer: {
        sampled: ({ tokens: count }) => void (generated += count),
        step: ({ draftTokens: fed, acceptedDrafts }) => {
          drafted += fed
          accepted += acceptedDrafts
        },
      },
    })
    engine.setActive(await backend.load({ model, version: 1, maskPath, priority: 'serving' }))
    return engine
  }

  async function stream(engine: Engine, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const start = (passage++ * PASSAGE_TOKENS) % (tokens.length - PASSAGE_TOKENS)
      const { events } = engine.generate({
        id: `passage-${passage}`,
        prompt: [...prompt(tokens.slice(start, start + PASSAGE_TOKENS)), ...model.codec.encode(request)],
        maxTokens: NEW_TOKENS,
        sampling: { ...GREEDY, temperature, seed: passage },
        stops: [],
        restartable: false,
        constraint: constrain?.(),
      })
      for await (const _ of events) if (signal.aborted) break
    }
  }

  const engines = { with: await openEngine(DRAFT_TOKENS), without: await openEngine(0) }
  const pairs = await runPairs(rounds, async (isWith) => {
    const stopped = new AbortController()
    const engine = isWith ? engines.with : engines.without
    const running = Promise.all(Array.from({ length: streams }, () => stream(engine, stopped.signal)))
    await sleep(roundMs / 10)
    const speed = await measureSpeed(() => generated, roundMs)
    stopped.abort()
    await running
    return speed
  })
  engines.with.close()
  engines.without.close()
  const names = { without: `${task}, ${streams} streams without drafts`, with: 'with drafts', noun: 'drafts' }
  return [
    ...comparePairs(pairs, names, 2),
    line('drafts that were right', `${((100 * accepted) / Math.max(1, drafted)).toFixed(0)} % of ${drafted}`),
  ]
}

function compile(model: DenseModel, schema: JsonSchema) {
  const text = JSON.stringify(withLayout(schema))
  return createGrammarCompiler(model).compile({ language: 'json_schema', text, param: 'schema' })
}
