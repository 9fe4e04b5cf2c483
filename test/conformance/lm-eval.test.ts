/** lm-evaluation-harness measures the weights that nodes serve, through the API that clients use. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { evaluateEvent } from '@copal/shared/wire/node-calls.ts'
import { temporaryDir } from '../support/harness/temporary.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { createTinyLlama } from '../support/models/tiny-llama.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { pythonPackage, type PythonPackage } from '../support/processes/python-package.ts'
import { passages } from '../support/text/passages.ts'

/** The packages that the harness needs for `local-completions` and a local task; all that it declares are 660 MB. */
const DEPENDENCIES = [
  'aiohttp==3.14.5',
  'dill==0.4.1',
  'jinja2==3.1.6',
  'numpy==2.4.6',
  'packaging==26.4',
  'pyyaml==6.0.4',
  'requests==2.34.2',
  'tenacity==9.2.1',
  'tokenizers==0.23.3',
  'tqdm==4.70.1',
]

/** The output of `lm_eval_local_task.py`: sums of log-probabilities in nats, one a text. */
interface HarnessResults {
  continuations: [logLikelihood: number, isGreedy: boolean][]
  texts: number[]
  /** Share of the texts that are greedy. */
  accuracy: number
  byte_perplexity: number
}

let fleet: TestFleet
let harness: PythonPackage
let key: string
let masked: number

beforeAll(async () => {
  harness = await pythonPackage('lm_eval', '0.4.13', DEPENDENCIES)
  fleet = await startFleet()
  await fleet.start('node-a')
  key = (await fleet.key()).key
  masked = (await fleet.importMask(randomHalfMask(fleet.model, 1).bytes, true)).version
})
afterAll(() => fleet?.stop())

/** Evaluates texts as `copal evaluate` does. @returns the sum of the log-probabilities of each one's tokens but the first */
async function evaluate(texts: readonly string[], version: number): Promise<number[]> {
  const sums: number[] = []
  for (const text of texts) {
    const body = { text, window_tokens: 1024, mask_version: version }
    const lines = await fleet.admin<string>('POST', '/admin/evaluate', body, 300_000)
    const events = lines
      .trim()
      .split('\n')
      .map((line) => evaluateEvent.parse(JSON.parse(line)))
    const result = events.find((event) => event.type === 'result')
    if (!result) throw new Error(lines)
    sums.push(-result.nllMean * result.tokens)
  }
  return sums
}

test('lm-evaluation-harness finds for each mask the log-likelihoods that the service finds', async () => {
  const dir = temporaryDir()
  await createTinyLlama(join(dir, 'tiny'))
  // Each begins with a capital letter, which is a token by itself.
  const texts = passages('novel.evaluation.txt', 2, 300).map((text) => `T: ${text}`)
  await writeFile(join(dir, 'texts.json'), JSON.stringify(texts))
  const sums: number[] = []
  for (const [weights, version] of [
    ['dense', 0],
    [`mask-${masked}`, masked],
  ] as const) {
    const script = join(import.meta.dirname, 'lm_eval_local_task.py')
    const { stdout, stderr, exitCode } = await harness.run(
      [script, `${fleet.url}/v1/completions`, `tiny@${weights}`, join(dir, 'tiny'), join(dir, 'texts.json')],
      { env: { OPENAI_API_KEY: key }, cwd: dir },
    )
    if (exitCode !== 0) throw new Error(`${stderr}\n${stdout}`)
    const found = JSON.parse(stdout.trim().split('\n').at(-1)!) as HarnessResults
    const continuations = await evaluate(texts, version)
    // The harness starts a text after the BOS token, which this model's texts have only if they say so.
    const wholes = await evaluate(
      texts.map((text) => `<|im_start|>${text}`),
      version,
    )
    for (const [index, expected] of continuations.entries()) {
      const [logLikelihood, isGreedy] = found.continuations[index]!
      expect(Math.abs(logLikelihood / expected - 1)).toBeLessThan(1e-5)
      expect(isGreedy).toBe(false)
      expect(Math.abs(found.texts[index]! / wholes[index]! - 1)).toBeLessThan(1e-5)
    }
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    const total = wholes.reduce((sum, value) => sum + value, 0)
    expect(found.accuracy).toBe(0)
    expect(Math.abs(found.byte_perplexity / Math.exp(-total / bytes) - 1)).toBeLessThan(1e-3)
    sums.push(total)
  }
  expect(sums[0]).not.toBeCloseTo(sums[1]!, 0)
})
