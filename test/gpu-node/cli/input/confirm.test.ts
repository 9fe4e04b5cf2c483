import { PassThrough } from 'node:stream'
import { expect, test } from 'vitest'
import { askLine } from '../../../../gpu-node/cli/input/ask-line.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const NOTHING_LEFT = { domains: [], pending: [], kept: [] }

test.each([
  [['domains', 'delete', 'legal'], 'delete the domain legal with all its texts and statistics'],
  [
    ['domains', 'delete', 'legal', '--key', 'k', '--tenant', 'a'],
    'delete the texts of key k and tenant a in the domain legal',
  ],
  [['domains', 'discard', 'found_1'], 'delete the proposed domain found_1 with its texts'],
  [['samples', 'delete', '--key', 'k'], 'delete the stored texts of key k in all domains'],
  [['keys', 'sampling', 'k', 'never', '--delete-texts'], 'delete the stored texts of key k in all domains'],
  [['tenants', 'set', 'a', '--delete-texts'], 'delete the stored texts of tenant a in all domains'],
  [['domains', 'rebuild', 'legal'], 'delete the statistics of the domain legal and make them anew'],
  [['domains', 'review', 'legal', '--drop', 't'], 'delete the text t of the domain legal'],
  [['keys', 'revoke', 'k'], 'revoke the key k'],
  [['holdout', 'delete'], 'delete the general holdout with all its versions and what was measured on them'],
])('%j asks before it changes anything', async (args, deed) => {
  for (const answer of ['', 'n', 'no', 'legal']) {
    const refused = await copal({}, args, { answer })
    expect(refused).toMatchObject({ code: 1, stdout: '', calls: [] })
    const question = `${deed.slice(0, 1).toUpperCase()}${deed.slice(1)}? This cannot be undone. [y/N] `
    expect(refused.stderr).toBe(`${question}copal: Nothing was changed.\n`)
  }
  const unasked = await copal({}, args)
  expect(unasked).toMatchObject({ code: 1, stdout: '', calls: [] })
  expect(unasked.stderr).toBe(
    `copal: Nothing was changed. There is no terminal to ask at. To ${deed}, add --yes.\n`,
  )
})

test.each(['y', 'YES', ' yes '])(
  'the answer %j deletes, and --yes does without a question',
  async (answer) => {
    const args = ['samples', 'delete', '--key', 'k']
    const asked = await copal(NOTHING_LEFT, args, { answer })
    expect(asked).toMatchObject({ code: 0, calls: [{ call: 'DELETE /admin/samples?key=k' }] })
    const sure = await copal(NOTHING_LEFT, [...args, '--yes'], { answer: 'n' })
    expect(sure).toMatchObject({ code: 0, stderr: '', calls: [{ call: 'DELETE /admin/samples?key=k' }] })
  },
)

test('a line is read from the terminal, and none where the input ends or Ctrl-C is pressed', async () => {
  let shown = ''
  const output = { write: (text: string) => (shown += text) }
  const ask = async (prepare: (input: PassThrough, interruption: AbortController) => void) => {
    const [input, interruption] = [new PassThrough(), new AbortController()]
    const line = askLine('Sure? ', { input, output, signal: interruption.signal })
    prepare(input, interruption)
    // A terminal that is not paused keeps the process running.
    return [await line, input.isPaused()]
  }
  expect(await ask((input) => input.write('yes\nmore\n'))).toEqual(['yes', true])
  expect(await ask((input) => input.end())).toEqual(['', true])
  expect(await ask((_, interruption) => interruption.abort())).toEqual(['', true])
  expect(shown).toBe('Sure? Sure? Sure? ')
})
