import { availableParallelism } from 'node:os'
import { InvalidArgumentError } from 'commander'
import { FORMS, type Form } from '../engine/engine-contender.ts'
import { MAX_THREADS } from '@copal/gpu-node/serving/contract/backend.ts'
import { cacheFolder } from '@copal/gpu-node/platform/cache-folder.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { openModel } from '@copal/gpu-node/model/open-model.ts'
import { DEFAULT_MODEL } from '@copal/gpu-node/model/source/resolve-model.ts'

/** The surroundings of a benchmark. */
export interface Workbench {
  /** A temporary folder, removed at the end. */
  home: string
  threads: number
  /** Prints a line for people. */
  print: (text: string) => void
  printAll: (lines: readonly string[]) => void
}

/** Returns the source of the model that {@link openBenchModel} opens. */
export function modelReference(): { spec: string; cacheDir: string } {
  return {
    spec: process.env.COPAL_MODEL || DEFAULT_MODEL,
    cacheDir: cacheFolder(process.env),
  }
}

/** Opens the model that a node would serve: the default one, or that of COPAL_MODEL. */
export function openBenchModel(): Promise<DenseModel> {
  const { spec, cacheDir } = modelReference()
  return openModel(spec, { cacheDir })
}

/** Creates a workbench that prints to standard output. */
export function createWorkbench(home: string): Workbench {
  const print = (text: string): void => void process.stdout.write(`${text}\n`)
  return {
    home,
    threads: Math.min(availableParallelism(), MAX_THREADS),
    print,
    printAll: (lines) => lines.forEach(print),
  }
}

/** Parses a whole number of at least 1. */
export function count(text: string): number {
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text)
  throw new InvalidArgumentError('A whole number of at least 1 is expected.')
}

/** Parses whole numbers of at least 1, separated by commas: `1,8`. */
export function counts(text: string): number[] {
  return text.split(',').map(count)
}

/** Parses a number above 0. */
export function positive(text: string): number {
  const value = Number(text)
  if (text.trim() !== '' && value > 0 && value <= 1e9) return value
  throw new InvalidArgumentError('A number above 0 is expected.')
}

/** Splits `a,b` at its commas. */
export function list(text: string): string[] {
  return text.split(',')
}

/** Returns a parser of lists whose parts are among `known`. */
export function someOf<const T extends string>(known: readonly T[]): (text: string) => T[] {
  return (text) =>
    text.split(',').map((part) => {
      const found = known.find((one) => one === part)
      if (found !== undefined) return found
      throw new InvalidArgumentError(`Expected some of ${known.join(', ')}.`)
    })
}

/** Parses a list of {@link Form}s. */
export const forms = someOf(Object.keys(FORMS) as Form[])
/** Help text of options that take {@link forms}. */
export const FORMS_HELP = `any of ${Object.keys(FORMS).join(', ')}; after the slash is the precision of the head (default: int8)`
/** Help text of options that take names of kernels. */
export const KERNELS_HELP = 'kernels to compare; without it that of COPAL_KERNEL, or the best of the machine'
