/** Every sentence of the status page, in Vietnamese and English. Data only. */

import type { Language } from "../words";

type Said = Record<Language, string>;

export const words = {
  title: { vi: "Tình trạng máy chủ", en: "Server status" },
  otherLanguage: { vi: "English", en: "Tiếng Việt" },
  figures: { vi: "Số liệu hiện tại", en: "Figures of now" },
  plots: { vi: "Một giờ qua", en: "The last hour" },
  asTable: { vi: "Xem dưới dạng bảng", en: "The same as a table" },
  tableCaption: { vi: "Trung bình mỗi năm phút, mới nhất ở trên", en: "Means of five minutes, the newest first" },
  ago: { vi: "Cách đây", en: "Ago" },
  minutes: { vi: "{n} phút", en: "{n} min" },
  now: { vi: "bây giờ", en: "now" },
  none: { vi: "chưa có số liệu", en: "no figures yet" },
  summary: {
    vi: "{what}: hiện tại {now}, thấp nhất {least}, cao nhất {most}",
    en: "{what}: {now} now, at least {least}, at most {most}",
  },
  well: { vi: "Máy chủ sẵn sàng. Không có gì cần xử lý.", en: "The server is ready. Nothing needs attention." },
  silent: {
    vi: "Máy chủ không trả lời. Số liệu bên dưới là của lần trả lời trước.",
    en: "The server does not answer. The figures below are from before.",
  },
  book: { vi: "Xem tài liệu xử lý sự cố, mục {chapter}.", en: "See the run-books, chapter {chapter}." },
  privacy: {
    vi: "Chỉ có số tổng: không tên phòng, tên người hay địa chỉ. Một giờ gần nhất nằm trong bộ nhớ, khởi động lại thì mất.",
    en: "Totals alone: no room, no person, no address. The last hour is kept in memory, and a restart forgets it.",
  },

  people: { vi: "Người tham gia", en: "People" },
  rooms: { vi: "Phòng", en: "Rooms" },
  load: { vi: "Mức tải", en: "Load" },
  traffic: { vi: "Âm thanh và hình ảnh", en: "Voices and pictures" },
  sent: { vi: "gửi đi", en: "sent" },
  received: { vi: "nhận vào", en: "received" },
  asked_again: { vi: "Gói phải gửi lại", en: "Packets sent again" },
  lag: { vi: "Độ trễ điều khiển", en: "Decisions late by" },
  memory: { vi: "Bộ nhớ", en: "Memory" },
  joins: { vi: "Lượt vào phòng", en: "Joins" },
  failed: { vi: "Không nối được", en: "Joins without media" },
  refused: { vi: "Bị từ chối", en: "Refused" },
  workers: { vi: "Luồng xử lý", en: "Workers" },
  certificate: { vi: "Chứng thư còn", en: "Certificate for" },
  running: { vi: "Đã chạy", en: "Running for" },
  days: { vi: "{n} ngày", en: "{n} days" },
  hours: { vi: "{n} giờ", en: "{n} h" },
  of: { vi: "{n} trên {all}", en: "{n} of {all}" },
  noCertificate: { vi: "không dùng", en: "none" },
} satisfies Record<string, Said>;

export type Word = keyof typeof words;

/** What the server calls a concern → the sentence, and the chapter of the run-books. */
export const concerns: Readonly<Record<string, Said & { chapter: string }>> = {
  worker_dead: {
    vi: "Một luồng xử lý đã hỏng và đang được thay.",
    en: "A worker has died and is being replaced.",
    chapter: "D4eSfuWorkerDied",
  },
  draining: {
    vi: "Máy chủ sắp dừng: không nhận phòng mới, các cuộc gọi đang chạy được kết thúc.",
    en: "The server is about to end: no new rooms, running calls may end.",
    chapter: "D4eSfuDown",
  },
  full: {
    vi: "Máy chủ đã đầy: người mới bị từ chối.",
    en: "The server is full: whoever comes now is turned away.",
    chapter: "D4eSfuFull",
  },
  busy: {
    vi: "Máy chủ gần đầy tải: hình ảnh sẽ nhỏ lại trước, tiếng giữ đến cuối.",
    en: "The server is nearly at its limit: pictures get smaller first, voices are last.",
    chapter: "D4eSfuWorkerBusy",
  },
  late: {
    vi: "Điều khiển bị chậm; âm thanh, hình ảnh vẫn chạy.",
    en: "Decisions come late; voices and pictures go on.",
    chapter: "D4eSfuEventLoopLate",
  },
  certificate: {
    vi: "Chứng thư sắp hết hạn; sau đó trình duyệt từ chối trang.",
    en: "The certificate expires soon; after that browsers refuse the page.",
    chapter: "D4eSfuCertificateExpires",
  },
  reload_refused: {
    vi: "Cấu hình mới có lỗi; máy chủ giữ cấu hình cũ.",
    en: "The new configuration has a mistake; the server keeps the old one.",
    chapter: "D4eSfuReloadRefused",
  },
  audit_lost: {
    vi: "Có bản ghi kiểm toán không ghi được; hãy kiểm tra ổ đĩa.",
    en: "Records of the audit log could not be written; look at the disk.",
    chapter: "D4eSfuDiskWillFill",
  },
};

export function fill(sentence: string, values: Readonly<Record<string, string>> = {}): string {
  return sentence.replace(/\{(\w+)\}/g, (mark, name: string) => values[name] ?? mark);
}
