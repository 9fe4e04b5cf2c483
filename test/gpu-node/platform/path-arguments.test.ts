import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { outputFile, outputFolder } from '../../../gpu-node/src/platform/path-arguments.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

test('an output path that can be written is returned, and nothing is left there', () => {
  const cwd = temporaryDir()
  mkdirSync(join(cwd, 'there'))
  writeFileSync(join(cwd, 'there', 'old.json'), '{}')
  expect(outputFolder('there', cwd)).toBe(join(cwd, 'there'))
  expect(outputFolder('new/deep', cwd)).toBe(join(cwd, 'new', 'deep'))
  expect(outputFile('there/new.json', cwd)).toBe(join(cwd, 'there', 'new.json'))
  expect(outputFile('there/old.json', cwd)).toBe(join(cwd, 'there', 'old.json'))
  expect(readdirSync(cwd, { recursive: true })).toEqual(['there', join('there', 'old.json')])
})

test('a file in the way of a folder, a folder in the way of a file, and a missing folder are named', () => {
  const cwd = temporaryDir()
  writeFileSync(join(cwd, 'file'), '')
  expect(() => outputFolder('file/lab', cwd)).toThrow('file is a file, a folder is needed.')
  expect(() => outputFile('.', cwd)).toThrow('. is a folder, a file is needed.')
  expect(() => outputFile('new/x.json', cwd)).toThrow('Make it first, or name another file.')
})

test.skipIf(!existsSync('/proc'))('a place where nothing can be created is named at once', () => {
  const cwd = temporaryDir()
  for (const path of ['/proc/lab', '/proc/lab/deep'])
    expect(() => outputFolder(path, cwd)).toThrow('No folder can be created in /proc.')
  expect(() => outputFolder('/proc', cwd)).toThrow('No file can be created in /proc.')
  expect(() => outputFile('/proc/x.json', cwd)).toThrow('No file can be created in /proc.')
})
