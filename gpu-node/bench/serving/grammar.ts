import type { Addon } from '@copal/gpu-node/native/addon.d.ts'
import { withLayout } from '@copal/gpu-node/serving/grammar/json-grammar.ts'
import { toolGrammar } from '@copal/gpu-node/serving/grammar/tool-grammar.ts'
import { createVocabulary } from '@copal/gpu-node/serving/grammar/grammar-vocabulary.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'

const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 80 },
    born: { type: 'string', format: 'date' },
    address: {
      type: 'object',
      properties: { street: { type: 'string' }, zip: { type: 'string', pattern: '^\\d{5}$' } },
      required: ['street', 'zip'],
      additionalProperties: false,
    },
    roles: { type: 'array', items: { enum: ['reader', 'writer', 'admin'] } },
    score: { type: 'number', minimum: 0, maximum: 100 },
  },
  required: ['name', 'born', 'address', 'roles', 'score'],
  additionalProperties: false,
}
const PERSON_JSON =
  '{"name": "Ada Lovelace of London", "born": "1815-12-10", "address": {"street": "12 St James\'s Square, near the park", ' +
  '"zip": "10115"}, "roles": ["reader", "writer"], "score": 99.5}'

/** A text of many words, for free strings and free responses. */
const PROSE =
  'The committee met on Tuesday to discuss the new bridge, which had been planned for eleven years and was still ' +
  'without a builder. Nobody knew why, although everybody had a theory of their own.'

const CASES: { name: string; language: 'json_schema' | 'lark'; source: string; answer: string }[] = [
  {
    name: 'schema of five fields',
    language: 'json_schema',
    source: JSON.stringify(withLayout(PERSON)),
    answer: PERSON_JSON,
  },
  {
    name: 'any object',
    language: 'json_schema',
    source: JSON.stringify(withLayout({ type: 'object' })),
    answer: `{"text": ${JSON.stringify(PROSE)}, "list": [1, 2, {"a": null}]}`,
  },
  {
    name: 'enum of 1,000 names',
    language: 'json_schema',
    source: JSON.stringify(
      withLayout({ enum: Array.from({ length: 1000 }, (_, index) => `city number ${index * 7919}`) }),
    ),
    answer: `"city number ${500 * 7919}"`,
  },
  {
    name: 'text or one of ten tools',
    language: 'lark',
    source: toolGrammar({
      tools: Array.from({ length: 10 }, (_, index) => ({
        type: 'function' as const,
        function: { name: `tool_${index}`, parameters: PERSON },
      })),
      mode: 'auto',
      parallel: true,
    }),
    answer: `${PROSE}\n<tool_call>\n{"name": "tool_7", "arguments": ${PERSON_JSON}}\n</tool_call>`,
  },
]

/**
 * Measures grammars on a model's vocabulary: preparing the vocabulary, compiling each grammar, and computing a mask per
 * token.
 *
 * @returns lines for people
 */
export async function benchGrammar(addon: Addon, model: DenseModel, repetitions: number): Promise<string[]> {
  const lines: string[] = []
  const prepared = await measured(() => createVocabulary(addon, model.codec, model.config))
  lines.push(line(`vocabulary of ${model.config.vocabSize} tokens, prepared`, shown([prepared])))
  for (const { name, language, source, answer } of CASES) {
    const tokens = Int32Array.from(model.codec.encode(answer))
    const compiled: Cost[] = []
    const masks: Cost[] = []
    for (let repetition = 0; repetition < repetitions; repetition++) {
      const compiling = await measured(() => prepared.value.compile(language, source))
      compiled.push(compiling)
      const matcher = compiling.value.matcher()
      const none = new Int32Array(0)
      masks.push(await measured(() => matcher.advance(none, none)))
      for (const token of tokens)
        masks.push(await measured(() => matcher.advance(Int32Array.of(token), none)))
    }
    lines.push(line(`${name}: compiled`, shown(compiled)))
    lines.push(line(`${name}: a mask, ${tokens.length + 1} per response`, shown(masks)))
  }
  return lines
}

interface Cost {
  wallMs: number
  processorMs: number
}

async function measured<T>(run: () => Promise<T>): Promise<Cost & { value: T }> {
  const before = process.cpuUsage()
  const startedMs = performance.now()
  const value = await run()
  const { user, system } = process.cpuUsage(before)
  return { value, wallMs: performance.now() - startedMs, processorMs: (user + system) / 1000 }
}

/** Formats processor time, which is reliable on a busy machine, and elapsed time. Both include hops between threads. */
function shown(costs: readonly Cost[]): string {
  const processor = spread(costs.map(({ processorMs }) => processorMs))
  const mean = costs.reduce((sum, { processorMs }) => sum + processorMs, 0) / costs.length
  return `${formatSpread(processor, 'ms of processor time', 3)}, mean ${mean.toFixed(3)}, median ${spread(costs.map(({ wallMs }) => wallMs)).median.toFixed(3)} ms elapsed`
}
