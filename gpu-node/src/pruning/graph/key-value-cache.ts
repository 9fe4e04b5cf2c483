import { AppError } from '@copal/shared/errors.ts'
import { keyValueNames } from './decoder-block.ts'
import { newKeyValueNames } from './decoder-graph.ts'
import { Tensor } from './onnx-runtime.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'

type CacheShape = Pick<LlamaConfig, 'layers' | 'kvHeads' | 'headDim' | 'contextLength'>

/** Maximum slots of a slab, and so maximum sequences in a decode step. */
const MAX_SLOTS = 16
/** Tokens of the smallest capacity class; each class has twice the capacity of the one before. */
const MIN_CAPACITY = 256
/** Maximum size of a plane of a slab, so that long contexts do not reserve the whole address space. */
const MAX_PLANE_BYTES = 64 * 2 ** 20
/** Maximum capacity of an empty slab that is kept for later sequences. */
const MAX_SPARE_CAPACITY = 512

/**
 * Keys and values of up to {@link MAX_SLOTS} sequences of up to `capacity` tokens. Each layer has a plane of keys and one
 * of values, `[slots, kvHeads, capacity, headDim]` f32. Sequences in neighbouring slots form a batch in place, so a
 * batched step copies nothing.
 *
 * Planes are zero pages until they are written, so the memory in use depends on the tokens, not on the capacity.
 */
export class Slab {
  readonly capacity: number
  /** Sequence id in each slot; null for a free slot. */
  readonly occupants: (number | null)[]
  readonly #shape: CacheShape
  readonly #planes: Float32Array<ArrayBuffer>[]
  readonly #feeds = new Map<number, Record<string, Tensor>>()

  constructor(shape: CacheShape, capacity: number) {
    this.#shape = shape
    this.capacity = capacity
    const slots = Math.max(1, Math.min(MAX_SLOTS, Math.floor(MAX_PLANE_BYTES / (this.#slotSize * 4))))
    this.occupants = Array.from({ length: slots }, () => null)
    this.#planes = Array.from({ length: 2 * shape.layers }, () => zeroPages(slots * this.#slotSize))
  }

  get isEmpty(): boolean {
    return this.occupants.every((occupant) => occupant === null)
  }

  /** Elements of one slot in one plane. */
  get #slotSize(): number {
    return this.#shape.kvHeads * this.capacity * this.#shape.headDim
  }

  /** Returns the keys and values of slots `first … first + count - 1` by input name, as tensors on the slab's memory. */
  past(first: number, count: number): Readonly<Record<string, Tensor>> {
    const key = first * MAX_SLOTS + count
    let feeds = this.#feeds.get(key)
    if (!feeds) {
      const { layers, kvHeads, headDim } = this.#shape
      const tensorOf = (plane: number) => {
        const data = this.#planes[plane] as Float32Array<ArrayBuffer>
        const slots = data.subarray(first * this.#slotSize, (first + count) * this.#slotSize)
        return new Tensor('float32', slots, [count, kvHeads, this.capacity, headDim])
      }
      feeds = {}
      for (let layer = 0; layer < layers; layer++) {
        const { past } = keyValueNames(layer)
        feeds[past[0]] = tensorOf(2 * layer)
        feeds[past[1]] = tensorOf(2 * layer + 1)
      }
      this.#feeds.set(key, feeds)
    }
    return feeds
  }

  /**
   * Writes the keys and values of `length` new tokens of one sequence, from `position` on.
   *
   * @param outputs outputs of the decoder by name, `[batch, length, kvHeads · headDim]` each
   * @param batchIndex index of the sequence in the batch
   */
  write(
    slot: number,
    position: number,
    outputs: Readonly<Record<string, Tensor>>,
    batchIndex: number,
    length: number,
  ): void {
    const { layers, kvHeads, headDim } = this.#shape
    for (let layer = 0; layer < layers; layer++) {
      for (const [which, name] of newKeyValueNames(layer).entries()) {
        const rows = (outputs[name] as Tensor).data as Float32Array
        const plane = this.#planes[2 * layer + which] as Float32Array
        for (let head = 0; head < kvHeads; head++) {
          let source = (batchIndex * length * kvHeads + head) * headDim
          let target = slot * this.#slotSize + (head * this.capacity + position) * headDim
          for (let token = 0; token < length; token++) {
            plane.set(rows.subarray(source, source + headDim), target)
            source += kvHeads * headDim
            target += headDim
          }
        }
      }
    }
  }

  /** Frees the memory at once, without waiting for garbage collection. The slab cannot be used any more. */
  dispose(): void {
    this.#feeds.clear()
    for (const plane of this.#planes) plane.buffer.resize(0)
  }

  /** Copies the first `length` tokens of a slot of another slab into a slot of this one. */
  copyFrom(source: Slab, sourceSlot: number, slot: number, length: number): void {
    const { kvHeads, headDim } = this.#shape
    for (const [index, plane] of this.#planes.entries()) {
      const from = source.#planes[index] as Float32Array
      for (let head = 0; head < kvHeads; head++) {
        const start = sourceSlot * source.#slotSize + head * source.capacity * headDim
        plane.set(
          from.subarray(start, start + length * headDim),
          slot * this.#slotSize + head * this.capacity * headDim,
        )
      }
    }
  }
}

/**
 * Creates an array of zeros that takes no memory until it is written. A resizable buffer has its own mapping, which
 * `resize(0)` frees; a plain buffer comes from the allocator's heap, which clears it at once and keeps it.
 */
function zeroPages(length: number): Float32Array<ArrayBuffer> {
  return new Float32Array(new ArrayBuffer(length * 4, { maxByteLength: length * 4 }))
}

/** The location of a sequence's keys and values. */
export interface SequenceSlot {
  slab: Slab
  slot: number
  /** Number of stored tokens. */
  length: number
}

/** The keys and values of every sequence of a weight set. */
export class KeyValueCache {
  readonly #shape: CacheShape
  readonly #slabs: Slab[] = []
  readonly #places = new Map<number, SequenceSlot>()

  constructor(shape: CacheShape) {
    this.#shape = shape
  }

  /** Returns the number of stored tokens of a sequence; 0 for an unknown one. */
  lengthOf(sequence: number): number {
    return this.#places.get(sequence)?.length ?? 0
  }

  /**
   * Reserves space for `total` tokens of a sequence and truncates it to its first `kept` tokens. A sequence that outgrows
   * its slab moves to one of larger capacity.
   *
   * @throws AppError `context_length_exceeded`
   */
  reserve(sequence: number, kept: number, total: number): SequenceSlot {
    if (total > this.#shape.contextLength) {
      throw new AppError(
        'context_length_exceeded',
        `The sequence has ${total} tokens, the model takes ${this.#shape.contextLength}.`,
      )
    }
    const place = this.#places.get(sequence)
    if (place && total <= place.slab.capacity) {
      place.length = kept
      return place
    }
    const moved = this.#allocate(sequence, total)
    if (place) {
      moved.slab.copyFrom(place.slab, place.slot, moved.slot, kept)
      this.#free(place)
    }
    moved.length = kept
    this.#places.set(sequence, moved)
    return moved
  }

  /** Frees a sequence; an unknown one is ignored. */
  drop(sequence: number): void {
    const place = this.#places.get(sequence)
    if (!place) return
    this.#places.delete(sequence)
    this.#free(place)
  }

  /** The number of slabs in memory and of sequences in them, for tests. */
  get usage(): { slabs: number; sequences: number } {
    return { slabs: this.#slabs.length, sequences: this.#places.size }
  }

  #allocate(sequence: number, tokens: number): SequenceSlot {
    let capacity = MIN_CAPACITY
    while (capacity < tokens) capacity *= 2
    let slab = this.#slabs.find((other) => other.capacity === capacity && other.occupants.includes(null))
    if (!slab) {
      slab = new Slab(this.#shape, capacity)
      this.#slabs.push(slab)
    }
    // The lowest free slot keeps the sequences of a slab together.
    const slot = slab.occupants.indexOf(null)
    slab.occupants[slot] = sequence
    return { slab, slot, length: 0 }
  }

  #free({ slab, slot }: SequenceSlot): void {
    slab.occupants[slot] = null
    if (!slab.isEmpty) return
    const isSpare = this.#slabs.every((other) => other === slab || other.capacity !== slab.capacity)
    if (isSpare && slab.capacity <= MAX_SPARE_CAPACITY) return
    this.#slabs.splice(this.#slabs.indexOf(slab), 1)
    slab.dispose()
  }
}
