import { createCodec } from '../../../gpu-node/src/model/tokenizer/hub-codec.ts'
import type { TextCodec } from '../../../gpu-node/src/model/tokenizer/text-codec.ts'

/** Creates a codec like LLaMA 2's: `▁` for the space, `<0x..>` for bytes without another token. */
export function sentencePieceCodec(): TextCodec {
  const pieces = ['<unk>', '<s>', '</s>', ...Array.from({ length: 256 }, (_, byte) => `<0x${hex(byte)}>`)]
  const vocabulary = [...pieces, '▁', 'h', 'i', 'hi', '▁hi']
  return createCodec(
    {
      json: {
        added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({
          id,
          content,
          special: true,
          normalized: false,
        })),
        normalizer: {
          type: 'Sequence',
          normalizers: [
            { type: 'Prepend', prepend: '▁' },
            { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
          ],
        },
        pre_tokenizer: null,
        post_processor: null,
        decoder: {
          type: 'Sequence',
          decoders: [
            { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
            { type: 'ByteFallback' },
            { type: 'Fuse' },
          ],
        },
        model: {
          type: 'BPE',
          unk_token: '<unk>',
          fuse_unk: true,
          byte_fallback: true,
          vocab: Object.fromEntries(vocabulary.map((token, id) => [token, id])),
          merges: ['h i', '▁ hi'],
        },
      },
      chatTemplate: null,
      bosToken: '<s>',
      eosToken: '</s>',
    },
    'llama-2',
  )
}

const hex = (byte: number) => byte.toString(16).toUpperCase().padStart(2, '0')
