import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { pythonPackage, type PythonPackage } from '../support/python-package.ts'
import { startService, type Service } from '../support/service.ts'
import { createTinyLlama } from '../support/tiny-llama.ts'

/** What must hold of every answer, whatever was asked; not that it is yes, which is not the schema's to say. */
const CHECKS = [
  'not_a_server_error',
  'status_code_conformance',
  'content_type_conformance',
  'response_headers_conformance',
  'response_schema_conformance',
  'negative_data_rejection',
  'unsupported_method',
  'allow_header_conformance',
  'ignored_auth',
]
const COMMON = [
  '--checks',
  CHECKS.join(','),
  '--seed',
  '1',
  '--continue-on-failure',
  '--no-color',
  '--request-timeout',
  '60',
  '--warnings',
  'off',
]

let dir: string
// One of its own: what is tried would get in the way of the others.
let service: Service
let schemathesis: PythonPackage

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'copal-schemathesis-'))
  await createTinyLlama(join(dir, 'tiny'), { contextLength: 512, tied: false })
  schemathesis = await pythonPackage('schemathesis', '4.32.5')
  service = await startService({
    env: {
      COPAL_MODEL: join(dir, 'tiny'),
      COPAL_CACHE: join(dir, 'cache'),
      COPAL_FIRST_UPDATE: 'off',
      COPAL_THREADS: '1',
    },
  })
}, 600_000)
afterAll(async () => {
  await service?.stop()
  await rm(dir, { recursive: true, force: true })
})

/** The same cases in the same order everywhere; a slow machine does not come to the last ones. */
interface Effort {
  /** Of each operation, at random. */
  examples: number
  seconds: number
}

/** Tries operations of the document, and tells how often each answered with which status. */
async function tryOut(
  key: string,
  { examples, seconds }: Effort,
  ...args: string[]
): Promise<Map<string, Map<number, number>>> {
  const answers = join(dir, 'answers.jsonl')
  const document = `${new URL(service.baseUrl).origin}/openapi.json`
  const config = join(import.meta.dirname, 'schemathesis.toml')
  const bounds = ['--max-examples', String(examples), '--max-time', String(seconds)]
  const { stdout, exitCode } = await schemathesis.run(
    ['-m', 'schemathesis.cli', '--config-file', config, 'run', document, ...COMMON, ...bounds, ...args],
    {
      cwd: dir,
      modules: [import.meta.dirname],
      env: { COPAL_KEY: key, COPAL_ANSWERS: answers, SCHEMATHESIS_HOOKS: 'schemathesis_hooks' },
    },
  )
  if (exitCode !== 0) throw new Error(`${stdout}\n${service.output()}`)
  const counts = new Map<string, Map<number, number>>()
  for (const line of (await readFile(answers, 'utf8')).trim().split('\n')) {
    const [operation, status] = JSON.parse(line) as [string, number]
    const own = counts.get(operation) ?? new Map<number, number>()
    counts.set(operation, own.set(status, (own.get(status) ?? 0) + 1))
  }
  return counts
}

test('whatever is asked of inference, the answer is none of a failure and as the document says', async () => {
  const effort = { examples: 15, seconds: 60 }
  const phases = ['--phases', 'coverage,fuzzing']
  const counts = await tryOut(service.apiKey, effort, '--include-tag', 'Inference', ...phases)
  expect(statusesOf(counts)).toEqual(expect.arrayContaining([200, 400, 401]))
}, 300_000)

test('whatever is asked of operators’ paths, the answer is none of a failure and as the document says', async () => {
  const effort = { examples: 3, seconds: 25 }
  const phases = ['--phases', 'coverage,fuzzing']
  const counts = await tryOut(service.adminKey, effort, '--exclude-tag', 'Inference', ...phases)
  expect(statusesOf(counts)).toEqual(expect.arrayContaining([200, 400, 401]))
}, 300_000)

/** On a busy machine the time is over before every operation was tried. */
function statusesOf(counts: Map<string, Map<number, number>>): number[] {
  return [...new Set([...counts.values()].flatMap((own) => [...own.keys()]))]
}
