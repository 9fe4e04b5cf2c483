import {
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { beforeEach, expect, test } from 'vitest'
import { describeSystemError } from '../../../gpu-node/src/platform/system-error.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

let dir: string
const at = (name: string) => join(dir, name)

beforeEach(() => {
  dir = temporaryDir()
  writeFileSync(at('a.txt'), 'a')
  mkdirSync(at('folder'))
})

test.each<[string, () => unknown, string]>([
  ['a file that is missing', () => readFileSync(at('none')), 'none does not exist'],
  ['one in a folder that is missing', () => readFileSync(at('no/ne')), 'The folder no does not exist'],
  ['a file below a file', () => readFileSync(at('a.txt/x')), 'a.txt is a file, a folder is needed'],
  ['a folder below a file', () => mkdirSync(at('a.txt/tmp')), 'a.txt is a file, a folder is needed'],
  ['a folder with the name of a file', () => mkdirSync(at('a.txt'), { recursive: true }), 'a.txt is a file'],
  ['a list of a file', () => readdirSync(at('a.txt')), 'a.txt is a file, a folder is needed'],
  ['a file of a name that a folder has', () => writeFileSync(at('folder'), ''), 'folder is a folder, a file'],
  ['a file moved onto a folder', () => renameSync(at('a.txt'), at('folder')), 'folder is a folder, a file'],
  ['a new file that is there', () => openSync(at('a.txt'), 'wx'), 'a.txt is there already'],
  ['scratch in a folder that is missing', () => mkdtempSync(at('no/x')), 'The folder no does not exist'],
])('%s has a readable message', (_, work, words) => {
  expect(describeSystemError(thrownBy(work), dir)).toContain(words)
})

test('an error without a path gets the given path', () => {
  const error = thrownBy(() => readFileSync(at('folder')))
  expect(describeSystemError(error, dir, 'folder')).toBe('folder is a folder, a file is needed')
  expect(describeSystemError(error, dir)).toBe('read: illegal operation on a directory')
})

test('a full disk and a denied permission name the path, without the code', () => {
  const system = (code: string, errno: number) =>
    Object.assign(new Error(code), { code, errno, syscall: 'open' })
  const full = Object.assign(system('ENOSPC', -28), { path: at('new') })
  expect(describeSystemError(full, dir)).toBe('No disk space is left for new')
  const denied = Object.assign(system('EACCES', -13), { path: at('folder/new') })
  expect(describeSystemError(denied, dir)).toBe('folder may not be read or written here: permission denied')
})

test('a programming error is not a system error', () => {
  expect(describeSystemError(new TypeError('x'), dir)).toBeUndefined()
})

function thrownBy(work: () => unknown): unknown {
  try {
    work()
  } catch (error) {
    return error
  }
  throw new Error('nothing was thrown')
}
