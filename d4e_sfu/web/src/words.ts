/**
 * Every sentence that the page can say, in Vietnamese and English: one typed table, so that a
 * missing translation does not compile. It is data only; language.ts chooses and places the words.
 * `{name}` marks a value that is filled in.
 *
 * Written for people who are not at home with computers: a fault says what happened (`what`) and
 * what to do now (`todo`), never a code.
 */

export type Language = "vi" | "en";
type Said = Record<Language, string>;

export const words = {
  title: { vi: "Phòng khám từ xa", en: "Telehealth room" },
  otherLanguage: { vi: "English", en: "Tiếng Việt" },

  // Before joining
  checkTitle: { vi: "Chuẩn bị vào phòng", en: "Get ready to join" },
  roomNamed: { vi: "Phòng {room}", en: "Room {room}" },
  yourName: { vi: "Tên của bạn", en: "Your name" },
  yourNameFixed: { vi: "Bạn vào với tên", en: "You join as" },
  camera: { vi: "Máy quay", en: "Camera" },
  microphone: { vi: "Micrô", en: "Microphone" },
  speaker: { vi: "Loa", en: "Speaker" },
  chooseDevices: { vi: "Chọn thiết bị", en: "Choose devices" },
  deviceNumber: { vi: "Thiết bị {number}", en: "Device {number}" },
  deviceNone: { vi: "Không tìm thấy", en: "None found" },
  preview: { vi: "Hình của bạn", en: "Your picture" },
  previewOff: { vi: "Máy quay đang tắt", en: "Your camera is off" },
  previewAsk: {
    vi: "Trình duyệt đang hỏi quyền dùng máy quay và micrô. Hãy bấm Cho phép.",
    en: "The browser is asking to use your camera and microphone. Please choose Allow.",
  },
  level: { vi: "Âm lượng micrô", en: "Microphone level" },
  levelTry: { vi: "Hãy nói thử vài tiếng.", en: "Say a few words to test it." },
  levelHeard: { vi: "Micrô nghe rõ bạn.", en: "Your microphone hears you." },
  levelSilent: {
    vi: "Chưa nghe thấy bạn. Hãy chọn micrô khác hoặc kiểm tra nút tắt tiếng trên tai nghe.",
    en: "We do not hear you. Choose another microphone, or check the mute switch of your headset.",
  },
  levelOff: { vi: "Micrô đang tắt.", en: "Your microphone is off." },
  retryDevices: { vi: "Thử lại", en: "Try again" },
  watchOnly: {
    vi: "Bạn vào để xem và nghe. Máy quay và micrô của bạn không được dùng.",
    en: "You join to watch and listen. Your camera and microphone are not used.",
  },
  networkCheck: { vi: "Thử mạng (10 giây)", en: "Check the network (10 seconds)" },
  networkCheckAgain: { vi: "Thử mạng lại", en: "Check the network again" },
  networkChecking: { vi: "Đang thử mạng…", en: "Checking the network…" },
  networkCarriesPicture: { vi: "Mạng này đủ cho cả tiếng và hình.", en: "This network carries voice and picture." },
  networkCarriesVoice: {
    vi: "Mạng này đủ cho tiếng. Hình sẽ chập chờn hoặc bị tắt.",
    en: "This network carries your voice. Pictures will be rough, or stop.",
  },
  networkCarriesNothing: {
    vi: "Mạng này rất yếu, tiếng cũng sẽ ngắt quãng. Hãy lại gần bộ phát Wi-Fi hoặc thử mạng khác.",
    en: "This network is very weak: even voices will break up. Move closer to the Wi-Fi, or try another network.",
  },
  networkOpen: { vi: "qua được, khứ hồi {trip} ms", en: "open, round trip {trip} ms" },
  networkBlocked: { vi: "bị chặn", en: "blocked" },
  networkFigures: {
    vi: "Gửi đi ít nhất {up} kbit/s, nhận về ít nhất {down} kbit/s, mất {lost} %, khứ hồi {trip} ms",
    en: "Sends at least {up} kbit/s, receives at least {down} kbit/s, loses {lost} %, round trip {trip} ms",
  },
  join: { vi: "Vào phòng", en: "Join the room" },
  joinSilently: { vi: "Vào để xem và nghe", en: "Join to watch and listen" },
  joining: { vi: "Đang vào phòng…", en: "Joining…" },
  privacy: {
    vi: "Hình và tiếng chỉ đi qua máy chủ của đơn vị này.",
    en: "Picture and sound pass only through this organisation’s own server.",
  },

  // In the room
  people: { vi: "Người trong phòng", en: "People in the room" },
  peopleCount: { vi: "Người trong phòng ({count})", en: "People in the room ({count})" },
  peopleHere: { vi: "người trong phòng, ", en: "in the room, " },
  handsUp: { vi: "giơ tay", en: "raised hands" },
  shownLarge: { vi: "Hình lớn", en: "Shown large" },
  alone: { vi: "Bạn là người đầu tiên. Xin đợi người khác vào.", en: "You are the first one here. Please wait for the others." },
  you: { vi: "Bạn · {name}", en: "You · {name}" },
  screenOf: { vi: "Màn hình của {name}", en: "{name}’s screen" },
  micIsOff: { vi: "Micrô tắt", en: "Microphone off" },
  micIsOn: { vi: "Micrô bật", en: "Microphone on" },
  pin: { vi: "Ghim {name}", en: "Pin {name}" },
  pinned: { vi: "Đã ghim {name}", en: "{name} is pinned" },
  unpinned: { vi: "Đã bỏ ghim {name}", en: "{name} is no longer pinned" },
  videoPaused: { vi: "Tạm dừng hình vì mạng yếu", en: "Picture paused: weak network" },
  voicePaused: { vi: "Mạng yếu, tạm không nghe được người này", en: "Weak network: this voice is paused" },
  pictureNotRecent: { vi: "Hình sẽ hiện khi người này nói", en: "Picture comes when this person speaks" },
  muteMic: { vi: "Tắt micrô", en: "Mute" },
  unmuteMic: { vi: "Bật micrô", en: "Unmute" },
  stopCamera: { vi: "Tắt hình", en: "Stop camera" },
  startCamera: { vi: "Bật hình", en: "Start camera" },
  share: { vi: "Chia sẻ", en: "Share" },
  stopShare: { vi: "Ngừng chia sẻ", en: "Stop sharing" },
  chat: { vi: "Trò chuyện", en: "Chat" },
  chatUnread: { vi: "Trò chuyện, {count} tin mới", en: "Chat, {count} new" },
  settings: { vi: "Cài đặt", en: "Settings" },
  leave: { vi: "Rời phòng", en: "Leave" },
  controls: { vi: "Điều khiển cuộc gọi", en: "Call controls" },
  close: { vi: "Đóng", en: "Close" },
  done: { vi: "Xong", en: "Done" },
  soundBlocked: {
    vi: "Trình duyệt đang chặn âm thanh.",
    en: "The browser is holding back the sound.",
  },
  soundOn: { vi: "Bật âm thanh", en: "Turn sound on" },
  joined: { vi: "{name} đã vào phòng", en: "{name} joined" },
  departed: { vi: "{name} đã rời phòng", en: "{name} left" },
  devicePlugged: { vi: "Đã cắm thêm: {name}.", en: "Plugged in: {name}." },
  deviceUnplugged: { vi: "Đã rút ra: {name}.", en: "Unplugged: {name}." },

  // The network and what it carries
  networkGood: { vi: "Mạng tốt", en: "Good network" },
  networkFair: { vi: "Mạng tạm ổn", en: "Fair network" },
  networkWeak: { vi: "Mạng yếu", en: "Weak network" },
  networkWeakUp: { vi: "Mạng yếu, gửi đi chập chờn", en: "Weak network: sending" },
  networkWeakDown: { vi: "Mạng yếu, nhận về chập chờn", en: "Weak network: receiving" },
  networkFullUp: { vi: "Mạng yếu, đường gửi đi bị nghẽn", en: "Weak network: too narrow for sending" },
  networkFullDown: { vi: "Mạng yếu, đường nhận về bị nghẽn", en: "Weak network: too narrow for receiving" },
  deviceSilent: { vi: "Máy của người này không gửi tiếng", en: "Their device sends no sound" },
  serverBusy: { vi: "Máy chủ đang quá tải", en: "The server is overloaded" },
  networkLost: { vi: "Mất kết nối", en: "Connection lost" },
  ownNetworkWeak: {
    vi: "Mạng của bạn đang yếu. Tắt hình sẽ giúp nghe rõ hơn.",
    en: "Your network is weak. Without pictures you will hear better.",
  },
  ownNetworkWeakUp: {
    vi: "Mạng của bạn yếu: người khác nghe và thấy bạn không rõ. Tắt hình sẽ giúp tiếng rõ hơn.",
    en: "Your network is weak: the others hear and see you badly. Without pictures your voice gets through better.",
  },
  ownDeviceSilent: {
    vi: "Máy của bạn không gửi tiếng đi. Hãy tắt rồi bật lại micrô, hoặc tải lại trang.",
    en: "Your device sends no sound. Switch the microphone off and on, or load the page again.",
  },
  ownNetworkWeakDown: {
    vi: "Mạng của bạn yếu: bạn nghe và thấy không rõ. Tắt hình sẽ giúp nghe rõ hơn.",
    en: "Your network is weak: you hear and see the others badly. Without pictures you will hear better.",
  },
  audioOnly: { vi: "Chỉ nghe tiếng", en: "Sound only" },
  audioOnlyMeans: {
    vi: "Không nhận hình của người khác, và tắt máy quay của bạn. Dùng ít dữ liệu, hợp với mạng yếu.",
    en: "You receive no pictures, and your camera stops. This uses little data and suits a weak network.",
  },
  audioOnlyNow: { vi: "Đang chỉ nghe tiếng để bớt dữ liệu.", en: "Sound only, to save data." },
  picturesAgain: { vi: "Nhận lại hình", en: "Show pictures again" },
  pictureNotReceived: { vi: "Không nhận hình", en: "Picture not received" },

  // Raised hands
  raiseHand: { vi: "Giơ tay", en: "Raise hand" },
  lowerHand: { vi: "Hạ tay", en: "Lower hand" },
  handIsUp: { vi: "Đang giơ tay", en: "Hand raised" },
  handRaised: { vi: "{name} giơ tay", en: "{name} raised a hand" },
  handLowered: { vi: "Người điều hành đã hạ tay của bạn.", en: "A moderator has lowered your hand." },

  // What a moderator does, and how the person concerned is told
  moderatesHere: { vi: "Điều hành phòng", en: "Runs the room" },
  optionsFor: { vi: "Điều hành {name}", en: "Options for {name}" },
  muteTheirMic: { vi: "Tắt micrô", en: "Mute" },
  stopTheirCamera: { vi: "Tắt hình", en: "Stop camera" },
  stopTheirShare: { vi: "Ngừng chia sẻ", en: "Stop sharing" },
  lowerTheirHand: { vi: "Hạ tay", en: "Lower hand" },
  rights: { vi: "Cho phép", en: "Allowed to" },
  toSpeak: { vi: "nói", en: "speak" },
  toShow: { vi: "bật hình", en: "turn on the camera" },
  toShare: { vi: "chia sẻ màn hình", en: "share a screen" },
  toWrite: { vi: "nhắn tin", en: "send messages" },
  removeFromRoom: { vi: "Mời ra khỏi phòng…", en: "Remove from the room…" },
  removeQuestion: { vi: "Mời {name} ra khỏi phòng?", en: "Remove {name} from the room?" },
  removeMeans: {
    vi: "Cuộc gọi của người này sẽ kết thúc ngay.",
    en: "The call ends for this person at once.",
  },
  removeYes: { vi: "Mời ra", en: "Remove" },
  cancel: { vi: "Không", en: "Cancel" },
  mutedByModerator: {
    vi: "Người điều hành đã tắt micrô của bạn. Bạn có thể bật lại khi cần nói.",
    en: "A moderator has muted you. You can unmute when you need to speak.",
  },
  cameraByModerator: {
    vi: "Người điều hành đã tắt hình của bạn. Bạn có thể bật lại.",
    en: "A moderator has stopped your camera. You can start it again.",
  },
  shareByModerator: {
    vi: "Người điều hành đã ngừng chia sẻ màn hình của bạn.",
    en: "A moderator has stopped your screen sharing.",
  },
  rightGiven: { vi: "Người điều hành cho phép bạn {what}.", en: "A moderator now lets you {what}." },
  rightTaken: { vi: "Người điều hành không cho phép bạn {what} nữa.", en: "A moderator no longer lets you {what}." },
  reconnecting: {
    vi: "Mất kết nối. Đang tự nối lại… Xin giữ trang này mở và kiểm tra Wi-Fi hoặc mạng di động.",
    en: "Connection lost. Reconnecting… Keep this page open, and check your Wi-Fi or mobile data.",
  },
  reconnected: { vi: "Đã nối lại.", en: "Connected again." },

  // Chat
  chatEmpty: {
    vi: "Chỉ những người đang ở trong phòng thấy tin nhắn. Tin nhắn không được lưu lại.",
    en: "Only the people in the room now see messages. Messages are not kept.",
  },
  chatWrite: { vi: "Viết tin nhắn", en: "Write a message" },
  chatSend: { vi: "Gửi", en: "Send" },
  chatMine: { vi: "Bạn", en: "You" },
  chatFrom: { vi: "Tin nhắn của {name}: {text}", en: "Message from {name}: {text}" },
  chatFailed: { vi: "Chưa gửi được. Hãy thử lại.", en: "Not sent. Please try again." },
  chatForbidden: {
    vi: "Bạn có thể đọc nhưng không gửi được tin nhắn trong phòng này.",
    en: "You can read but not send messages in this room.",
  },

  // Roles
  doctor: { vi: "Bác sĩ", en: "Doctor" },
  "health-worker": { vi: "Nhân viên y tế", en: "Health worker" },
  patient: { vi: "Người bệnh", en: "Patient" },
  observer: { vi: "Quan sát", en: "Observer" },
  moderator: { vi: "Điều hành", en: "Moderator" },

  // After the call
  again: { vi: "Vào lại phòng", en: "Join again" },
} satisfies Record<string, Said>;

export type Word = keyof typeof words;

type Told = Record<Language, { what: string; todo: string }>;

export const faults = {
  // The browser
  insecure: {
    vi: {
      what: "Trang này chưa được mở qua kết nối an toàn, nên không dùng được máy quay và micrô.",
      todo: "Hãy mở lại bằng địa chỉ bắt đầu với https://.",
    },
    en: {
      what: "This page was not opened over a secure connection, so it cannot use the camera and microphone.",
      todo: "Open it again with the address that begins with https://.",
    },
  },
  unsupported: {
    vi: {
      what: "Trình duyệt này không hỗ trợ cuộc gọi có hình.",
      todo: "Hãy mở đường dẫn bằng Chrome, Edge, Firefox hoặc Safari bản mới; không mở bên trong ứng dụng khác.",
    },
    en: {
      what: "This browser does not support video calls.",
      todo: "Open the link in a recent Chrome, Edge, Firefox or Safari, not inside another app.",
    },
  },
  // The link
  noLink: {
    vi: {
      what: "Để vào phòng, bạn cần đường dẫn mời.",
      todo: "Hãy mở đúng đường dẫn mà cơ sở y tế đã gửi cho bạn, từ đầu đến cuối.",
    },
    en: {
      what: "To enter a room you need an invitation link.",
      todo: "Open the link that the health facility sent you, from its first to its last letter.",
    },
  },
  badLink: {
    vi: {
      what: "Đường dẫn mời không đầy đủ hoặc bị sai.",
      todo: "Hãy chép lại trọn đường dẫn, hoặc xin cơ sở y tế gửi lại.",
    },
    en: {
      what: "The invitation link is incomplete or damaged.",
      todo: "Copy the whole link again, or ask the health facility to send it again.",
    },
  },
  // Joining
  expired: {
    vi: { what: "Đường dẫn mời đã hết hạn.", todo: "Hãy xin cơ sở y tế gửi đường dẫn mới." },
    en: { what: "The invitation link has expired.", todo: "Ask the health facility for a new link." },
  },
  early: {
    vi: {
      what: "Chưa đến giờ hẹn: đường dẫn mời chưa có hiệu lực.",
      todo: "Hãy thử lại vào giờ hẹn, và xem đồng hồ của máy có đúng không.",
    },
    en: {
      what: "It is too early: the invitation link is not valid yet.",
      todo: "Try again at the time of your appointment, and check that the clock of your device is right.",
    },
  },
  refused: {
    vi: {
      what: "Máy chủ không chấp nhận đường dẫn mời này.",
      todo: "Hãy xin cơ sở y tế gửi đường dẫn mới.",
    },
    en: {
      what: "The server does not accept this invitation link.",
      todo: "Ask the health facility for a new link.",
    },
  },
  noRoom: {
    vi: { what: "Phòng này chưa mở hoặc đã đóng.", todo: "Hãy hỏi lại cơ sở y tế về giờ hẹn." },
    en: { what: "This room is not open.", todo: "Ask the health facility about the appointment." },
  },
  busy: {
    vi: { what: "Phòng hoặc máy chủ đã đầy.", todo: "Hãy đợi một phút rồi thử lại." },
    en: { what: "The room or the server is full.", todo: "Wait a minute, then try again." },
  },
  hurried: {
    vi: {
      what: "Mạng này vừa gửi quá nhiều yêu cầu trong thời gian ngắn.",
      todo: "Hãy đợi vài giây rồi thử lại.",
    },
    en: {
      what: "Too many requests came from this network in a short time.",
      todo: "Wait a few seconds, then try again.",
    },
  },
  unreachable: {
    vi: {
      what: "Không kết nối được với máy chủ.",
      todo: "Hãy kiểm tra Wi-Fi hoặc mạng di động, rồi thử lại.",
    },
    en: {
      what: "The server cannot be reached.",
      todo: "Check your Wi-Fi or mobile data, then try again.",
    },
  },
  noMedia: {
    vi: {
      what: "Đã gặp máy chủ, nhưng hình và tiếng không đi qua được mạng này.",
      todo: "Hãy thử mạng khác (ví dụ mạng di động), hoặc nhờ người quản trị mạng mở cổng UDP.",
    },
    en: {
      what: "The server answered, but picture and sound cannot pass through this network.",
      todo: "Try another network (mobile data, for example), or ask the network’s administrator to open the UDP port.",
    },
  },
  broken: {
    vi: {
      what: "Có lỗi bất ngờ ở phía máy chủ hoặc trang này.",
      todo: "Hãy thử lại. Nếu vẫn lỗi, hãy báo cho cơ sở y tế.",
    },
    en: {
      what: "Something went wrong in the server or this page.",
      todo: "Try again. If it happens again, tell the health facility.",
    },
  },
  // Devices
  denied: {
    vi: {
      what: "Bạn chưa cho phép dùng máy quay hoặc micrô.",
      todo: "Hãy bấm biểu tượng ổ khóa hoặc máy quay cạnh thanh địa chỉ, chọn Cho phép, rồi bấm Thử lại. Bạn vẫn có thể vào để xem và nghe.",
    },
    en: {
      what: "The camera or the microphone is not allowed.",
      todo: "Click the lock or camera icon beside the address bar, choose Allow, then Try again. You can still join to watch and listen.",
    },
  },
  noCamera: {
    vi: {
      what: "Không tìm thấy máy quay.",
      todo: "Bạn có thể vào chỉ với tiếng. Nếu có máy quay rời, hãy cắm vào rồi bấm Thử lại.",
    },
    en: {
      what: "No camera was found.",
      todo: "You can join with sound only. If you have a separate camera, plug it in and choose Try again.",
    },
  },
  noMicrophone: {
    vi: {
      what: "Không tìm thấy micrô.",
      todo: "Người khác sẽ không nghe thấy bạn. Hãy cắm tai nghe có micrô rồi bấm Thử lại.",
    },
    en: {
      what: "No microphone was found.",
      todo: "The others will not hear you. Plug in a headset with a microphone and choose Try again.",
    },
  },
  noDevices: {
    vi: {
      what: "Không tìm thấy máy quay và micrô.",
      todo: "Bạn vẫn có thể vào để xem và nghe, và nhắn tin nếu được phép.",
    },
    en: {
      what: "No camera and no microphone were found.",
      todo: "You can still join to watch and listen, and to chat if that is allowed.",
    },
  },
  inUse: {
    vi: {
      what: "Máy quay hoặc micrô đang được chương trình khác dùng.",
      todo: "Hãy đóng chương trình đó (Zalo, Zoom, Teams…), rồi bấm Thử lại.",
    },
    en: {
      what: "Another program is using the camera or the microphone.",
      todo: "Close that program (Zalo, Zoom, Teams…), then choose Try again.",
    },
  },
  deviceBroken: {
    vi: {
      what: "Không mở được máy quay hoặc micrô.",
      todo: "Hãy rút ra cắm lại hoặc chọn thiết bị khác, rồi bấm Thử lại.",
    },
    en: {
      what: "The camera or the microphone could not be opened.",
      todo: "Unplug it and plug it in again, or choose another one, then Try again.",
    },
  },
  speakerFailed: {
    vi: { what: "Không dùng được loa này.", todo: "Hãy chọn loa khác trong phần Cài đặt." },
    en: { what: "This speaker could not be used.", todo: "Choose another one in the settings." },
  },
  shareFailed: {
    vi: {
      what: "Không chia sẻ được màn hình.",
      todo: "Hãy thử lại và cho phép trình duyệt ghi màn hình trong cài đặt của máy.",
    },
    en: {
      what: "The screen could not be shared.",
      todo: "Try again, and let the browser record the screen in the settings of your device.",
    },
  },
  notPermitted: {
    vi: {
      what: "Vai trò của bạn trong phòng này không cho phép việc đó.",
      todo: "Hãy nhờ người điều hành phòng nếu bạn cần.",
    },
    en: {
      what: "Your role in this room does not allow that.",
      todo: "Ask the moderator of the room if you need it.",
    },
  },
  roleForbids: {
    vi: { what: "Vai trò của người này không cho phép việc đó.", todo: "Chỉ người quản trị máy chủ đổi được quyền của vai trò." },
    en: { what: "The role of this person does not allow that.", todo: "Only the server’s administrator can change what a role may do." },
  },
  goneAlready: {
    vi: { what: "Người này không còn trong phòng.", todo: "Bạn không cần làm gì thêm." },
    en: { what: "This person is no longer in the room.", todo: "There is nothing left to do." },
  },
  tooFast: {
    vi: { what: "Máy chủ đang bận.", todo: "Hãy đợi vài giây rồi thử lại." },
    en: { what: "The server is busy.", todo: "Wait a few seconds, then try again." },
  },
  // Endings
  left: {
    vi: { what: "Bạn đã rời phòng.", todo: "Bạn có thể đóng trang này." },
    en: { what: "You have left the room.", todo: "You can close this page." },
  },
  replaced: {
    vi: {
      what: "Bạn đã vào phòng này ở một thiết bị hoặc cửa sổ khác.",
      todo: "Hãy tiếp tục ở đó, hoặc vào lại tại đây.",
    },
    en: {
      what: "You have joined this room on another device or in another window.",
      todo: "Go on there, or join again here.",
    },
  },
  removed: {
    vi: {
      what: "Người điều hành đã đưa bạn ra khỏi phòng.",
      todo: "Nếu bạn cho là nhầm, hãy liên hệ cơ sở y tế.",
    },
    en: {
      what: "A moderator has removed you from the room.",
      todo: "If you think this is a mistake, contact the health facility.",
    },
  },
  closed: {
    vi: { what: "Buổi khám đã kết thúc.", todo: "Bạn có thể đóng trang này." },
    en: { what: "The session has ended.", todo: "You can close this page." },
  },
  stopped: {
    vi: {
      what: "Máy chủ đang được bảo trì.",
      todo: "Hãy đợi vài phút rồi vào lại.",
    },
    en: { what: "The server is being maintained.", todo: "Wait a few minutes, then join again." },
  },
  lost: {
    vi: {
      what: "Mất kết nối với phòng.",
      todo: "Hãy kiểm tra Wi-Fi hoặc mạng di động, rồi vào lại.",
    },
    en: {
      what: "The connection to the room was lost.",
      todo: "Check your Wi-Fi or mobile data, then join again.",
    },
  },
} satisfies Record<string, Told>;

export type Fault = keyof typeof faults;
