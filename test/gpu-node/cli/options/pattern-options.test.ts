import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { readPatternRules } from '../../../../gpu-node/cli/options/pattern-options.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

test('linears to leave out come after the rules of the file, even if the file has a rule of the same name', () => {
  const dir = temporaryDir()
  writeFileSync(join(dir, 'rules.json'), '{"*.up_proj.weight": "0.3", "model.layers.0.*": "2:4"}')
  const options = { patterns: 'rules.json', leaveOut: ['*.up_proj.weight'] }
  expect(Object.entries(readPatternRules(options, dir) as object)).toEqual([
    ['model.layers.0.*', '2:4'],
    ['*.up_proj.weight', 'dense'],
  ])
})

test('without a file there are only the linears to leave out', () => {
  expect(readPatternRules({ leaveOut: [] }, '.')).toEqual({})
  expect(readPatternRules({ leaveOut: ['a', 'b'] }, '.')).toEqual({ a: 'dense', b: 'dense' })
})

test('a file that is not an object is passed on to be checked later; a file that is not JSON is an error', () => {
  const dir = temporaryDir()
  writeFileSync(join(dir, 'list.json'), '["0.5"]')
  writeFileSync(join(dir, 'broken.json'), '{"a":')
  expect(readPatternRules({ patterns: 'list.json', leaveOut: ['a'] }, dir)).toEqual(['0.5'])
  expect(() => readPatternRules({ patterns: 'broken.json', leaveOut: [] }, dir)).toThrow(
    'broken.json is not JSON.',
  )
})
