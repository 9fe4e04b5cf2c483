import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { createGrammars } from '../../../../gpu-node/src/serving/grammar/grammar-compiler.ts'
import { createGrammarTrial } from '../../../../gpu-node/src/serving/grammar/compile-sandbox.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const REQUEST = { language: 'json_schema', text: '{}' } as const

/** A program that tells of its start and then does what `script` says. */
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
    const trial = createGrammarTrial(path)
    await expect(trial(REQUEST)).rejects.toMatchObject({ code: 'node_failed', retryable: true })
    expect(starts()).toBe(2)
  },
)

test('a process that was ended once is started again, and its answer counts', async () => {
  const { path, starts } = program(`
    if (starts === 1) process.exit(1)
    process.once('message', () => process.send({ end: 'compiled' }))`)
  await createGrammarTrial(path)(REQUEST)
  expect(starts()).toBe(2)
})

test('only a process that says so makes a grammar too costly', async () => {
  const { path, starts } = program(`process.once('message', () => process.send({ end: 'too costly' }))`)
  const codec = { tokenBytes: () => new Uint8Array(), isSpecial: () => false }
  const grammars = createGrammars({
    codec,
    config: { vocabSize: 1, eosTokenIds: [0] },
    load: () => ({ createVocabulary: async () => ({}) }) as never,
    trial: createGrammarTrial(path),
  })
  const source = { ...REQUEST, param: 'tools' }
  for (let time = 0; time < 2; time++)
    await expect(grammars.compile(source)).rejects.toMatchObject({ code: 'invalid_request', param: 'tools' })
  expect(starts()).toBe(1)
})
