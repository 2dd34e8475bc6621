// A participant on the unmodified SDK for Go, for the tests: commands come in as lines, what happens goes out as lines of
// JSON. Nothing is encoded or decoded here; frames are files that the tests write and read (tests/lab/go_client.py).
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/livekit/protocol/livekit"
	lksdk "github.com/livekit/server-sdk-go/v2"
	"github.com/pion/rtp"
	"github.com/pion/rtp/codecs"
	"github.com/pion/webrtc/v4"
	"github.com/pion/webrtc/v4/pkg/media"
	"github.com/pion/webrtc/v4/pkg/media/samplebuilder"
)

const (
	pictureTime = 40 * time.Millisecond
	soundTime   = 20 * time.Millisecond
	late        = 200 // packets that the sample builder waits for a missing one
)

// The sizes that are sent, lowest first, as the web client has them.
var sizes = []struct {
	quality       livekit.VideoQuality
	width, height uint32
}{
	{livekit.VideoQuality_LOW, 320, 180},
	{livekit.VideoQuality_MEDIUM, 640, 360},
	{livekit.VideoQuality_HIGH, 1280, 720},
}

var out sync.Mutex

func tell(event, who, detail string) {
	out.Lock()
	defer out.Unlock()
	line, _ := json.Marshal(map[string]string{"event": event, "who": who, "detail": detail})
	fmt.Println(string(line))
}

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: client URL TOKEN FOLDER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		tell("failed", "", err.Error())
		os.Exit(1)
	}
}

func run(url, token, folder string) error {
	callback := &lksdk.RoomCallback{
		OnParticipantConnected:    func(p *lksdk.RemoteParticipant) { tell("connected", p.Identity(), "") },
		OnParticipantDisconnected: func(p *lksdk.RemoteParticipant) { tell("disconnected", p.Identity(), "") },
		OnReconnecting:            func() { tell("reconnecting", "", "") },
		OnReconnected:             func() { tell("reconnected", "", "") },
		OnDisconnectedWithReason:  func(reason lksdk.DisconnectionReason) { tell("left", "", string(reason)) },
		ParticipantCallback: lksdk.ParticipantCallback{
			OnTrackMuted: func(pub lksdk.TrackPublication, p lksdk.Participant) { tell("muted", p.Identity(), string(pub.Kind())) },
			OnTrackUnmuted: func(pub lksdk.TrackPublication, p lksdk.Participant) {
				tell("unmuted", p.Identity(), string(pub.Kind()))
			},
			OnTrackSubscribed: func(track *webrtc.TrackRemote, _ *lksdk.RemoteTrackPublication, p *lksdk.RemoteParticipant) {
				tell("subscribed", p.Identity(), track.Kind().String())
				go receive(track, p, filepath.Join(folder, p.Identity()+"."+track.Kind().String()))
			},
		},
	}
	room := lksdk.NewRoom(callback)
	err := room.RegisterTextStreamHandler("lk.chat", func(reader *lksdk.TextStreamReader, identity string) {
		go func() { tell("text", identity, reader.ReadAll()) }()
	})
	if err != nil {
		return err
	}
	if err := room.JoinWithToken(url, token); err != nil {
		return err
	}
	tell("joined", room.LocalParticipant.Identity(), "")

	var published []*lksdk.LocalTrackPublication
	commands := bufio.NewScanner(os.Stdin)
	for commands.Scan() {
		verb, rest, _ := strings.Cut(commands.Text(), " ")
		switch verb {
		case "publish":
			if published, err = publish(room, folder); err != nil {
				return err
			}
			tell("published", "", "")
		case "mute", "unmute":
			for _, publication := range published {
				publication.SetMuted(verb == "mute")
			}
		case "say":
			room.LocalParticipant.SendText(rest, lksdk.StreamTextOptions{Topic: "lk.chat"})
		case "leave":
			room.Disconnect()
			return nil
		default:
			return fmt.Errorf("no such command: %s", verb)
		}
	}
	return commands.Err()
}

// publish sends the folder's voice, and its picture in three sizes, over and over.
func publish(room *lksdk.Room, folder string) ([]*lksdk.LocalTrackPublication, error) {
	voice, err := lksdk.NewLocalTrack(webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2})
	if err != nil {
		return nil, err
	}
	frames, err := read(filepath.Join(folder, "voice"))
	if err != nil {
		return nil, err
	}
	options := &lksdk.TrackPublicationOptions{Name: "voice", Source: livekit.TrackSource_MICROPHONE, DisableDTX: true}
	sound, err := room.LocalParticipant.PublishTrack(voice, options)
	if err != nil {
		return nil, err
	}
	go send(voice, frames, soundTime)

	var layers []*lksdk.LocalTrack
	var pictures [][][]byte
	for _, size := range sizes {
		layer := &livekit.VideoLayer{Quality: size.quality, Width: size.width, Height: size.height}
		track, err := lksdk.NewLocalTrack(
			webrtc.RTPCodecCapability{MimeType: webrtc.MimeTypeVP8, ClockRate: 90000}, lksdk.WithSimulcast("picture", layer))
		if err != nil {
			return nil, err
		}
		frames, err := read(filepath.Join(folder, fmt.Sprintf("picture-%d", size.width)))
		if err != nil {
			return nil, err
		}
		layers, pictures = append(layers, track), append(pictures, frames)
	}
	options = &lksdk.TrackPublicationOptions{
		Name: "picture", Source: livekit.TrackSource_CAMERA, VideoWidth: 1280, VideoHeight: 720}
	picture, err := room.LocalParticipant.PublishSimulcastTrack(layers, options)
	if err != nil {
		return nil, err
	}
	for n, track := range layers {
		go send(track, pictures[n], pictureTime)
	}
	return []*lksdk.LocalTrackPublication{sound, picture}, nil
}

func send(track *lksdk.LocalTrack, frames [][]byte, each time.Duration) {
	ticker := time.NewTicker(each)
	defer ticker.Stop()
	for n := 0; ; n++ {
		<-ticker.C
		// Not bound yet, or no longer: what has no connection goes nowhere.
		_ = track.WriteSample(media.Sample{Data: frames[n%len(frames)], Duration: each}, nil)
	}
}

// receive appends each whole frame to a file. A picture that begins in the middle is asked for anew.
func receive(track *webrtc.TrackRemote, from *lksdk.RemoteParticipant, path string) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		tell("failed", from.Identity(), err.Error())
		return
	}
	defer file.Close()
	var unpack rtp.Depacketizer = &codecs.OpusPacket{}
	if track.Kind() == webrtc.RTPCodecTypeVideo {
		unpack = &codecs.VP8Packet{}
		from.WritePLI(track.SSRC())
	}
	builder := samplebuilder.New(late, unpack, track.Codec().ClockRate)
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				tell("ended", from.Identity(), err.Error())
			}
			return
		}
		builder.Push(packet)
		for sample := builder.Pop(); sample != nil; sample = builder.Pop() {
			var size [4]byte
			binary.BigEndian.PutUint32(size[:], uint32(len(sample.Data)))
			if _, err := file.Write(append(size[:], sample.Data...)); err != nil {
				return
			}
		}
	}
}

// read gives the frames of a file: the size of each in four bytes before it.
func read(path string) ([][]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var frames [][]byte
	for len(content) >= 4 {
		size := binary.BigEndian.Uint32(content)
		frames = append(frames, content[4:4+size])
		content = content[4+size:]
	}
	return frames, nil
}
