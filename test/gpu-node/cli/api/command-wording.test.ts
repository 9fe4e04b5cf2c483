import { globSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import { withCommands, toCommandError } from '../../../../gpu-node/cli/api/command-wording.ts'

test.each([
  [
    "There is no node 'x'. 'GET /admin/nodes' lists them.",
    "There is no node 'x'. 'npx copal nodes' lists them.",
  ],
  ["'PUT /admin/tenants/acme' makes it.", "'npx copal tenants set acme' makes it."],
  ["cancel it with 'POST /admin/updates/upd_1/cancel'.", "cancel it with 'npx copal cancel upd_1'."],
  [
    "import texts with 'POST /admin/domains/nosuch/texts', or",
    "import texts with 'npx copal domains import nosuch <file>', or",
  ],
  ["with 'DELETE /admin/domains/:domain'.", "with 'npx copal domains delete <domain>'."],
  ["'GET /admin/unheard-of' stays", "'GET /admin/unheard-of' stays"],
])('a call that the API recommends is shown as a command: %s', (message, told) => {
  expect(withCommands(message)).toBe(told)
})

test('every call that a message of the gateway recommends has a command', () => {
  const root = fileURLToPath(new URL('../../../../gateway/src/', import.meta.url))
  const calls = globSync('**/*.ts', { cwd: root }).flatMap(
    (file) => readFileSync(`${root}${file}`, 'utf8').match(/'[A-Z]+ \/admin\/[^']*'/g) ?? [],
  )
  expect(calls.length).toBeGreaterThan(10)
  for (const call of calls) expect(withCommands(call)).toMatch(/^'npx copal /)
})

test.each([
  [
    'max_completion_tokens',
    "Invalid 'max_completion_tokens': Too small.",
    "Invalid '--max-tokens': Too small.",
  ],
  ['window_tokens', "Invalid 'window_tokens': Too small.", "Invalid '--window': Too small."],
  [
    'selection.patterns.a*',
    "Invalid 'selection.patterns.a*': no pattern.",
    "Invalid '--patterns.a*': no pattern.",
  ],
  ['since', "Invalid 'since': expected a time.", "Invalid '--since': expected a time."],
  ['reason', "Invalid 'reason': Too short.", "Invalid '--reason': Too short."],
  ['samples', "Invalid 'samples': Too large.", "Invalid '--samples': Too large."],
  [null, "There is no tenant 'model'.", "There is no tenant 'model'."],
])('the field %s is shown as its option', (param, message, told) => {
  const error = new AppError('invalid_request', message, param === null ? {} : { param })
  expect(toCommandError(error)).toMatchObject({ code: 'invalid_request', message: told })
})

test('a body that is too large is the text of a command', () => {
  const error = new AppError(
    'body_too_large',
    'The request body is larger than 16 MiB, the maximum for this path.',
  )
  expect(toCommandError(error).message).toBe(
    'The text is larger than 16 MiB, the maximum that this command can send. Use a part of it.',
  )
})
