import { availableParallelism, homedir } from 'node:os'
import { join } from 'node:path'
import { InvalidArgumentError } from 'commander'
import { FORMS, type Form } from '../engine/engine-contender.ts'
import { MOST_THREADS } from '@copal/gpu-node/serving/contract/backend.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { openModel } from '@copal/gpu-node/model/open-model.ts'
import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'

/** What every benchmark is given. */
export interface Workbench {
  /** A folder of its own, removed at the end. */
  home: string
  threads: number
  /** A line for people. */
  print: (text: string) => void
  printAll: (lines: readonly string[]) => void
}

/** Where the model that {@link openBenchModel} opens comes from. */
export function modelReference(): { spec: string; cacheDir: string } {
  return {
    spec: process.env.COPAL_MODEL || DEFAULT_MODEL,
    cacheDir: process.env.COPAL_CACHE || join(homedir(), '.cache', 'copal'),
  }
}

/** The model that would be served: the default one, or that of COPAL_MODEL. */
export function openBenchModel(): Promise<DenseModel> {
  const { spec, cacheDir } = modelReference()
  return openModel(spec, { cacheDir })
}

/** A workbench that prints to the standard output. */
export function createWorkbench(home: string): Workbench {
  const print = (text: string): void => void process.stdout.write(`${text}\n`)
  return {
    home,
    threads: Math.min(availableParallelism(), MOST_THREADS),
    print,
    printAll: (lines) => lines.forEach(print),
  }
}

/** An option's whole number from 1 on. */
export function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('A whole number of at least 1 is expected.')
}

/** An option's `1,8`: {@link count}s. */
export function counts(text: string): number[] {
  return text.split(',').map(count)
}

/** An option's number above 0. */
export function positive(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && value > 0 && value <= 1e9) return value
  throw new InvalidArgumentError('A number above 0 is expected.')
}

/** An option's `a,b`. */
export function list(text: string): string[] {
  return text.split(',')
}

/** An option's list of which each is one of `known`. */
export function someOf<const T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((part) => {
      const found = known.find((one) => one === part)
      if (found !== undefined) return found
      throw new InvalidArgumentError(`There are: ${known.join(', ')}.`)
    })
}

/** An option's list of {@link Form}s. */
export const forms = someOf(Object.keys(FORMS) as Form[])
export const FORMS_HELP = `of ${Object.keys(FORMS).join(', ')}: behind a slash is the head, which is int8 without`
