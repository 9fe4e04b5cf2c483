import type { KernelName, Precision } from '../../../native/addon.d.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'

/** The engine and the weights of a background process of the sparse engine; sent by structured clone. */
export interface BackgroundSparseOptions extends Pick<DenseModel, 'config' | 'master'> {
  threads?: number | undefined
  kernel?: KernelName | undefined
  precision: Precision
  headPrecision: Precision
  version: number
  maskPath: string | null
}
