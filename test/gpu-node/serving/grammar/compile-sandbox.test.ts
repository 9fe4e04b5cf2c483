import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createGrammarCompiler } from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { createCompileSandbox } from '../../../../gpu-node/src/serving/grammar/compile-sandbox.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const REQUEST = { language: 'json_schema', text: '{}' } as const

/** Writes a program that records its start and then runs `script`. */
function program(script: string) {
  const dir = temporaryDir()
  const [path, starts] = [join(dir, 'program.mjs'), join(dir, 'starts')]
  writeFileSync(
    path,
    `import { appendFileSync, readFileSync } from 'node:fs'
    appendFileSync(${JSON.stringify(starts)}, 'x')
    const starts = readFileSync(${JSON.stringify(starts)}, 'utf8').length
    ${script}`,
  )
  return { path, starts: () => readFileSync(starts, 'utf8').length }
}

test.each([
  ['cannot load what it needs', `throw new Error('no addon')`],
  ['is ended while it compiles', `process.once('message', () => process.kill(process.pid, 'SIGKILL'))`],
])(
  'a process that %s is the node’s failure, after a second try, and not the client’s',
  async (_what, script) => {
    const { path, starts } = program(script)
    const sandbox = createCompileSandbox(path)
    await expect(sandbox(REQUEST)).rejects.toMatchObject({ code: 'node_failed', retryable: true })
    expect(starts()).toBe(2)
  },
)

test('a process that was killed once is started again, and its result counts', async () => {
  const { path, starts } = program(`
    if (starts === 1) process.exit(1)
    process.once('message', () => process.send({ outcome: 'compiled' }))`)
  await createCompileSandbox(path)(REQUEST)
  expect(starts()).toBe(2)
})

test('a process that hangs is killed and started again, so that other grammars are compiled', async () => {
  const { path, starts } = program(`
    process.on('message', () => starts > 1 && process.send({ outcome: 'compiled' }))`)
  const sandbox = createCompileSandbox(path, undefined, 2000)
  await sandbox(REQUEST)
  expect(starts()).toBe(2)
})

test('a grammar is too costly only when the process reports it', async () => {
  const { path, starts } = program(`process.once('message', () => process.send({ outcome: 'too costly' }))`)
  const codec = { tokenBytes: () => new Uint8Array(), isSpecial: () => false, encode: () => [] }
  const grammars = createGrammarCompiler({
    codec,
    config: { vocabSize: 1, eosTokenIds: [0] },
    load: () => ({ createVocabulary: async () => ({}) }) as never,
    sandbox: createCompileSandbox(path),
  })
  const source = { ...REQUEST, param: 'tools' }
  for (let time = 0; time < 2; time++)
    await expect(grammars.compile(source)).rejects.toMatchObject({ code: 'invalid_request', param: 'tools' })
  expect(starts()).toBe(1)
})
